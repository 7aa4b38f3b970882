#!/usr/bin/env python3
"""Make data/BCCD from a copy of the blood cell data set, leaving out the two objects that are no boxes.

    git clone https://github.com/Shenggan/BCCD_Dataset
    python data/scripts/prepare_bccd.py --source BCCD_Dataset/BCCD --out data/BCCD

BCCD (Shenggan, MIT licence): 364 photographs of 640 x 480 pixels in PASCAL VOC layout, with red and white
blood cells and platelets. Two of its 4888 boxes are single points, and training refuses such a set. The copy
made here lacks them, prints which ones they are, and differs in nothing else. The source is only read.
"""

import argparse
import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'tools'))
import _init_paths  # noqa: F401

import whole_file
from _command_line import run

FOLDERS = ('Annotations', 'ImageSets', 'JPEGImages')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--source', required=True, metavar='FOLDER', help='the BCCD folder of BCCD_Dataset')
    parser.add_argument('--out', default='data/BCCD', metavar='FOLDER', help='default: data/BCCD')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args()
    for name in FOLDERS:
        if not os.path.isdir(os.path.join(args.source, name)):
            raise FileNotFoundError(f'{args.source} has no folder {name}; --source is the BCCD folder of BCCD_Dataset')
    if os.path.exists(args.out):
        raise FileExistsError(f'{args.out} is there already; remove it to make it anew')
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    with whole_file.beside(args.out) as making:
        for name in FOLDERS:
            # plain copies: permissions of a read-only source are not taken over
            shutil.copytree(os.path.join(args.source, name), os.path.join(making, name), copy_function=shutil.copyfile)
        _make_writable(making)
        for name in sorted(os.listdir(os.path.join(making, 'Annotations'))):
            for left_out in drop_points(os.path.join(making, 'Annotations', name)):
                print(f'{name}: left out {left_out}')
    print(f'{args.out} is ready')


def _make_writable(folder: str) -> None:
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o755)


def drop_points(path: str) -> list[str]:
    """Remove the objects of zero width or height from a VOC annotation file; returns what they were."""
    tree = ElementTree.parse(path)
    root, dropped = tree.getroot(), []
    for k, node in enumerate(root.findall('object'), start=1):
        x1, y1, x2, y2 = (float(node.findtext(f'bndbox/{c}')) for c in ('xmin', 'ymin', 'xmax', 'ymax'))
        if x2 <= x1 or y2 <= y1:
            dropped.append(f'object {k} ({node.findtext("name")}), a box of ({x1:g}, {y1:g}, {x2:g}, {y2:g})')
            root.remove(node)
    if dropped:
        whole_file.write(path, ElementTree.tostring(root, encoding='utf-8'))
    return dropped


if __name__ == '__main__':
    run(main)
