#!/usr/bin/env python3
"""Makes a project of one's own photographs and labels: finds out what they are, splits them, writes net and settings.

tools/new_project.py fruit --images ~/photos/fruit --labels ~/photos/fruit_labels

Labels may be PASCAL VOC XML, COCO's JSON, YOLO text files, LabelMe's JSON, or CSV with a header, as labelling tools
export them; without --labels they are looked for among the photographs. Photographs and labels are never changed.
What is written goes to projects/NAME, whose README has the next commands.
"""

import _init_paths  # noqa: F401

import argparse
import glob
import os
import re
import sys
from collections import Counter
from typing import Any

import whole_file
from _command_line import parser_of, run

CLASSES_SHOWN = 30
WITHOUT = {
    'val': 'the last model is taken, for nothing tells which is the best',
    'test': 'test_net.py tests on others, which the model was chosen by or learned from: its numbers are too good',
}


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('name', nargs='?', metavar='NAME', help='of the project: letters, digits, _ and -')
    parser.add_argument(
        '--images',
        required=True,
        nargs='+',
        metavar='PATH',
        help='photographs: folders, with those below them, files, patterns, or a .txt that lists them',
    )
    parser.add_argument(
        '--labels',
        nargs='+',
        metavar='PATH',
        help='folders of the labels, or their files (default: those of --images, or labels, Annotations beside them)',
    )
    parser.add_argument('--format', choices=('voc', 'coco', 'yolo', 'labelme', 'csv'), help='if it is not told apart')
    parser.add_argument(
        '--net',
        default='small',
        help='small, which learns from scratch, MobileNet-v2, VGG_CNN_M_1024, VGG16 or ResNet-50',
    )
    parser.add_argument(
        '--split', default='70/15/15', metavar='A/B/C', help='shares to train, validate and test on (default: 70/15/15)'
    )
    parser.add_argument('--resplit', action='store_true', help='split anew where folders say train, val, test already')
    parser.add_argument('--seed', type=int, default=3, help='of the split (default: 3)')
    parser.add_argument(
        '--rename', action='append', default=[], metavar='OLD=NEW', help='call a class otherwise; may be given again'
    )
    parser.add_argument(
        '--exif',
        choices=('shown', 'stored'),
        help='what labels of photographs that their EXIF data turn are for, where the labels do not tell',
    )
    parser.add_argument('--dry-run', action='store_true', help='show what would be written, write nothing')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    from detection_data.image_file import cut_off
    from projects.formats import NoLabelsError, read_labels
    from projects.photographs import ImageFolder, LabelError, number_of
    from projects.project import FOLDER, NETS, project_files, too_thin
    from projects.split import given_split, split_photographs

    if args.name is None:
        raise ValueError(
            'the name of the project is missing: it goes first, as in new_project.py fruit --images FOLDER'
        )
    if not re.fullmatch(r'[\w-]+', args.name):
        raise ValueError(f'a project is named with letters, digits, _ and -; got {args.name!r}')
    if args.net not in NETS:
        raise ValueError(f'--net {args.net}: there are {", ".join(NETS)}')
    if not re.fullmatch(r'\d+/\d+/\d+', args.split) or args.split.startswith('0/'):
        raise ValueError(f'--split takes three shares, such as 70/15/15, the first above 0; got {args.split!r}')
    folder = os.path.join(FOLDER, args.name)
    if os.path.exists(folder):
        raise ValueError(f'{folder} is there already: take another name, or remove that folder')
    folders, chosen = places_of(args.images)

    said: Counter[str] = Counter()
    images = ImageFolder(folders, args.exif)
    labels = args.labels or folders
    try:
        kind, photographs = read_labels(labels, images, said, args.format)
    except NoLabelsError:
        beside = labels_beside(folders)
        if args.labels or beside == folders:
            raise
        labels = beside
        print(f'The labels are looked for in {", ".join(labels)} (--labels says otherwise)')
        kind, photographs = read_labels(labels, images, said, args.format)
    if chosen is not None:
        images.paths = [path for path in images.paths if path in chosen]
        photographs = [p for p in photographs if p.path in chosen]
        if not photographs:
            raise LabelError(f'none of the {len(chosen)} photographs of --images has a label in {", ".join(labels)}')
    photographs = renamed(photographs, args.rename)
    without = len(images.paths) - len(photographs)
    objects = Counter(box.name for p in photographs for box in p.boxes)
    print(f'Found {number_of(len(images.paths), "photograph")}, {len(photographs)} of them labelled ({kind}):')
    for name in sorted(objects)[:CLASSES_SHOWN]:
        print(f'  {name}: {number_of(objects[name], "object")}')
    if len(objects) > CLASSES_SHOWN:
        print(f'  and {number_of(len(objects) - CLASSES_SHOWN, "class", "es")} more')
    if without:
        such = f'{"such as" if without > 1 else "which is"} {unlabelled(images, photographs)}'
        print(f'{number_of(without, "photograph")} without labels {"are" if without > 1 else "is"} left out, {such}')
    for p in photographs:
        damage = cut_off(p.path)
        if damage is not None:
            print(f'damaged, partly grey: {p.path} ({damage})')
    for what, count in said.items():
        print(f'{count} x {what}')
    shares = [int(share) for share in args.split.split('/')]
    given = None if args.resplit else given_split(photographs)
    if given:
        print('The split is that of the folders train, val and test (--resplit makes another)')
        dealt = given
    else:
        dealt = split_photographs(photographs, images.root, shares, args.seed)
    if not dealt['train']:
        raise LabelError(f'{number_of(len(photographs), "photograph")}: too few to split {args.split}')
    files = project_files(args.name, args.net, dealt, images, labels, args.seed, said, kind)
    say_split(dealt, [split for split, share in zip(dealt, [1] * 3 if given else shares, strict=True) if share])
    thin = too_thin(photographs, args.net)
    if thin:
        print(
            f'Note: {number_of(len(thin), "photograph")}, such as {thin[0]}, would have a side of 0 pixels when '
            'scaled, which training refuses: take such labels away and make the project anew'
        )
    if args.dry_run:
        for path, content in files.items():
            print(f'\n---- {folder}/{path}\n{content if len(content) < 4000 else content[:4000] + "..."}')
        return 0
    write(folder, files)
    python = min(sys.executable, os.path.relpath(sys.executable), key=len)
    print(f'{folder} is made. Next:\n')
    print(f'  {python} tools/train_net.py --project {args.name}')
    if dealt['val'] or dealt['test']:
        print(f'  {python} tools/test_net.py --project {args.name}')
    print(f'  {python} tools/demo.py --project {args.name} photo.jpg')
    return 0


def places_of(words: list[str]) -> tuple[list[str], set[str] | None]:
    """The folders of the photographs that --images names; and which of those in them it means, None for all."""
    from detection_data.image_list import listed_images

    folders = [word for word in words if os.path.isdir(word)]
    chosen = None
    if len(folders) < len(words):
        if len(words) == 1 and not os.path.exists(words[0]) and not glob.has_magic(words[0]):
            raise FileNotFoundError(f'there is no folder and no file {words[0]} (--images)')
        chosen = {os.path.abspath(path) for path in listed_images(words)}
        folders += sorted({os.path.relpath(os.path.dirname(path)) for path in chosen})
    outermost: list[str] = []  # what lies in another folder is found there
    for folder in sorted(folders, key=lambda folder: len(os.path.abspath(folder))):
        inside = os.path.abspath(folder)
        if not any(os.path.commonpath([inside, os.path.abspath(each)]) == os.path.abspath(each) for each in outermost):
            outermost.append(folder)
    return outermost, chosen


def labels_beside(folders: list[str]) -> list[str]:
    """Of folders of photographs without labels: those beside them that are called as labels are, where there are."""
    above = [os.path.dirname(os.path.abspath(folder)) for folder in folders]
    beside = [[os.path.join(each, name) for name in ('labels', 'Annotations', 'annotations')] for each in above]
    there = [[os.path.relpath(path) for path in paths if os.path.isdir(path)] for paths in beside]
    return list(dict.fromkeys(paths[0] if paths else folder for paths, folder in zip(there, folders, strict=True)))


def say_split(dealt: dict[str, list], wanted: list[str]) -> None:
    """Print how many photographs and objects each split has, and what those of `wanted`, and test, lack."""
    from projects.photographs import number_of

    counts = {split: Counter(box.name for p in part for box in p.boxes) for split, part in dealt.items()}
    names = sorted(set().union(*counts.values()))
    shown = names[:CLASSES_SHOWN]
    width = max(map(len, ['objects', *shown]))
    print(f'{"objects":<{width}}' + ''.join(f'{split:>8}' for split in dealt))
    print(f'{"images":<{width}}' + ''.join(f'{len(part):8d}' for part in dealt.values()))
    for name in shown:
        print(f'{name:<{width}}' + ''.join(f'{of_class[name]:8d}' for of_class in counts.values()))
    for split, part in dealt.items():
        lacking = [name for name in names if not counts[split][name]]
        if part and lacking:
            more = f' and {number_of(len(lacking) - 3, "class", "es")} more' if len(lacking) > 3 else ''
            print(f'Note: no {", ".join(lacking[:3])}{more} to {split}: too few photographs have one')
        elif not part and (split in wanted or split == 'test'):
            print(f'Note: no photograph to {split}: {WITHOUT[split]}')


def renamed(photographs: list, rules: list[str]) -> list:
    """The photographs with classes called as `rules`, each OLD=NEW, say."""
    import dataclasses

    names = dict(rule.split('=', 1) for rule in rules if '=' in rule)
    if len(names) < len(rules):
        raise ValueError(f'--rename takes OLD=NEW, each OLD once; got {rules}')
    known = {box.name for p in photographs for box in p.boxes}
    if not set(names) <= known:
        raise ValueError(f'--rename: no class {", ".join(sorted(set(names) - known))}; there are {sorted(known)}')
    return [
        dataclasses.replace(
            p, boxes=tuple(dataclasses.replace(b, name=names.get(b.name, b.name).strip()) for b in p.boxes)
        )
        for p in photographs
    ]


def unlabelled(images: Any, photographs: list) -> str:
    labelled = {p.path for p in photographs}
    return next(os.path.relpath(path, images.root) for path in images.paths if path not in labelled)


def write(folder: str, files: dict[str, str]) -> None:
    """All files, or none: they are written beside the folder, which appears under its name when it is whole."""
    os.makedirs(os.path.dirname(os.path.abspath(folder)), exist_ok=True)
    with whole_file.beside(folder) as made:
        for path, content in files.items():
            target = os.path.join(made, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            whole_file.write_text(target, content)


if __name__ == '__main__':
    run(main)
