"""Names of data sets -> `imdb`.

voc_2007_trainval                       VOC 2007 ... 2012: train, val, trainval, test
coco_2014_minival                       COCO 2014: train, val, minival, valminusminival; 2017: train, val; and
                                        their tests (see COCO_SPLITS)
folder:data/demo:train                  any folder in VOC layout, and a split of it
coco:labels.json:images                 any annotation file in COCO's format, and the folder of its images
voc_2007_trainval+voc_2012_trainval     several, joined
"""

from __future__ import annotations

import difflib
import os
import re

from detection_data.coco import coco
from detection_data.imdb import JoinedImdb, imdb
from detection_data.pascal_voc import VOC_CLASSES, class_names, pascal_voc
from project_root import ROOT

YEARS = tuple(str(year) for year in range(2007, 2013))
SPLITS = ('train', 'val', 'trainval', 'test')
FOLDER, COCO_FILE = 'folder:', 'coco:'

# split of COCO -> the folder of its images. The test sets' ground truth is withheld.
COCO_SPLITS = {
    'coco_2014_train': 'train2014', 'coco_2014_val': 'val2014',
    'coco_2014_minival': 'val2014', 'coco_2014_valminusminival': 'val2014', 'coco_2014_test': 'test2014',
    'coco_2015_test': 'test2015', 'coco_2015_test-dev': 'test2015',
    'coco_2017_train': 'train2017', 'coco_2017_val': 'val2017',
    'coco_2017_test': 'test2017', 'coco_2017_test-dev': 'test2017',
}  # fmt: skip


def list_imdbs() -> list[str]:
    """The names of the known sets. Besides these there are `folder:PATH:SPLIT`, `coco:FILE:IMAGES`, and
    any joined by '+'.
    """
    return [f'voc_{year}_{split}' for year in YEARS for split in SPLITS] + list(COCO_SPLITS)


def get_imdb(name: str, data_dir: str | None = None) -> imdb:
    """The data set of that name (see the module).

    name: 'voc_<year>_<split>', 'coco_<year>_<split>', 'folder:PATH:SPLIT', 'coco:FILE:IMAGES' (relative paths are
    relative to the working directory), or several joined by '+'. data_dir: the folder that holds VOCdevkit<year>, coco
    and the proposals; if None `data`, in the checkout, or in the working folder where pip has installed this.

    Raises ValueError for an unknown name (the message gives the nearest ones), and FileNotFoundError if the files of
    the set are not there (the message says where they should be, and how to get them).
    """
    data_dir = data_dir or os.path.join(ROOT, 'data')
    parts = []
    for part_name in joined_names(name):
        parts.append(_single(part_name, data_dir))
        parts[-1].spec = part_name
    result = parts[0] if len(parts) == 1 else JoinedImdb(parts)
    result.spec = name
    return result


def joined_names(name: str) -> list[str]:
    """The names that '+' joins in `name`. A '+' in a path, before which no name begins, joins nothing."""
    return [part.strip() for part in re.split(rf'\+(?=\s*(?:{FOLDER}|{COCO_FILE}|voc_|coco_))', name)]


def _single(name: str, data_dir: str) -> imdb:
    if name.startswith(FOLDER):
        return _folder(name)
    if name.startswith(COCO_FILE):
        return _coco_file(name)
    if name in COCO_SPLITS:
        return _coco(name, data_dir)
    if name in list_imdbs():
        _, year, split = name.split('_')
        return _voc(name, year, split, data_dir)
    kind, colon, rest = name.partition(':')
    near = difflib.get_close_matches(name, list_imdbs(), n=4, cutoff=0.4)
    if colon:  # a kind of data set, misspelt
        near = [k + rest for k in difflib.get_close_matches(f'{kind}:', [FOLDER, COCO_FILE], n=1, cutoff=0.4)]
    raise ValueError(
        f'unknown data set {name!r}; '
        + (f'nearest names: {", ".join(near)}; ' if near else '')
        + 'known are voc_<2007...2012>_<train|val|trainval|test>, '
        'coco_2014_<train|val|minival|valminusminival>, coco_2017_<train|val>, '
        'folder:PATH:SPLIT, coco:FILE:IMAGES, and these joined by +'
    )


def voc_root(name: str, data_dir: str | None = None) -> str:
    """The folder that holds the images and annotations of 'voc_<year>_<split>'; see `get_imdb`."""
    data_dir = data_dir or os.path.join(ROOT, 'data')
    year = name.split('_')[1]
    devkits = [os.path.join(data_dir, 'VOCdevkit' + year), os.path.join(data_dir, 'VOCdevkit')]
    roots = [os.path.join(devkit, 'VOC' + year) for devkit in devkits]
    root = next((r for r in roots if os.path.isdir(r)), None)
    if root is None:
        fetch = f' or fetch it with data/scripts/fetch_voc.sh {year}' if year in ('2007', '2012') else ''
        raise FileNotFoundError(
            f'{name}: VOC {year} not found: looked for {" and ".join(roots)}; '
            f'link your copy of the development kit there (ln -s /path/to/VOCdevkit {devkits[0]}){fetch}'
        )
    return root


def _voc(name: str, year: str, split: str, data_dir: str) -> imdb:
    root = voc_root(name, data_dir)
    pattern = os.path.join(_literal(data_dir), '{method}_data', name + '.h5')
    voc = pascal_voc(name, root, split, VOC_CLASSES, pattern, use_07_metric=year == '2007')
    if split == 'test' and year != '2007':
        voc.withheld = not all(os.path.isfile(voc.annotation_path_at(i)) for i in range(voc.num_images))
    return voc


def folder_root(name: str) -> tuple[str, str]:
    """(folder, split) of 'folder:PATH:SPLIT'; see `get_imdb`."""
    root, separator, split = name[len(FOLDER) :].rpartition(':')
    if not (separator and root and split):
        raise ValueError(f'{name!r}: expected folder:PATH:SPLIT, for instance folder:data/demo:train')
    root = os.path.abspath(os.path.expanduser(root))
    if not os.path.isdir(root):
        raise FileNotFoundError(
            f'{name}: no folder {root}; expected Annotations, JPEGImages and ImageSets/Main in it; '
            f'the demo set is made by: python data/scripts/make_demo_data.py --out data/demo'
        )
    return root, split


def _folder(name: str) -> imdb:
    root, split = folder_root(name)
    set_name = re.sub(r'[^\w.-]', '_', f'{os.path.basename(root)}_{split}')
    pattern = os.path.join(_literal(root), 'proposals', '{method}_' + _literal(split) + '.h5')
    return pascal_voc(set_name, root, split, class_names(root), pattern)


def _coco(name: str, data_dir: str) -> imdb:
    root = os.path.join(data_dir, 'coco')
    _, year, split = name.split('_')
    withheld = split.startswith('test')
    kind = 'image_info' if withheld else 'instances'
    annotations = os.path.join(root, 'annotations', f'{kind}_{split}{year}.json')
    folders = [os.path.join(root, *sub, COCO_SPLITS[name]) for sub in (('images',), ())]
    images = next((folder for folder in folders if os.path.isdir(folder)), None)
    if images is None or not os.path.isfile(annotations):
        missing = annotations if images else ' or '.join(folders)
        raise FileNotFoundError(
            f'{name}: not found: looked for {missing}; link your copy of COCO there '
            f'(ln -s /path/to/coco {root}) '
            f'or fetch it with data/scripts/fetch_coco.sh {year}'
        )
    pattern = os.path.join(_literal(data_dir), '{method}_data', name + '.h5')
    data_set = coco(name, annotations, images, pattern, published=True)
    data_set.withheld = withheld
    return data_set


def _coco_file(name: str) -> imdb:
    path, images = _file_and_folder(name[len(COCO_FILE) :])
    if not (path and images):
        raise ValueError(f'{name!r}: expected coco:ANNOTATIONS.json:IMAGES, for instance coco:labels.json:images')
    path, images = (os.path.abspath(os.path.expanduser(p)) for p in (path, images))
    if not os.path.isdir(images):
        raise FileNotFoundError(f'{name}: no folder {images}, in which the images should be')
    stem = os.path.splitext(os.path.basename(path))[0]
    folder = os.path.join(_literal(os.path.dirname(path)), 'proposals')
    set_name = re.sub(r'[^\w.-]', '_', stem)
    # The name tells the set from a folder's split of the same name, and from the same labels with other images
    whole = _literal(f'coco_{stem}_in_{os.path.basename(images)}')
    return coco(
        set_name, path, images, os.path.join(folder, f'{{method}}_{whole}.h5'),
        earlier_pattern=os.path.join(folder, '{method}_' + _literal(stem) + '.h5'),
    )  # fmt: skip


def _file_and_folder(text: str) -> tuple[str, str]:
    """The two paths of FILE:FOLDER, either of which may have a colon: FILE is one that is there, if there is one."""
    ends = [k for k, letter in enumerate(text) if letter == ':']
    there = [k for k in ends if os.path.isfile(os.path.expanduser(text[:k]))]
    end = (there or ends or [len(text)])[-1]
    return text[:end], text[end + 1 :]


def _literal(text: str) -> str:
    """Braces in a path are no fields of a pattern."""
    return text.replace('{', '{{').replace('}', '}}')
