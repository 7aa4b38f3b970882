#!/usr/bin/env python3
"""Import published proposals (MATLAB files) to where a data set looks for them.

Selective search of VOC (data/scripts/fetch_selective_search_data.sh), one file a data set:

    tools/import_proposals.py --imdb voc_2007_test --source data/selective_search_data/voc_2007_test.mat

MCG of COCO (MCG-COCO-val2014-boxes.tgz, unpacked), one file an image; train with
--set TRAIN.PROPOSAL_METHOD mcg:

    tools/import_proposals.py --imdb coco_2014_minival --source MCG-COCO-val2014-boxes --method mcg
"""

import _init_paths  # noqa: F401

import argparse
import os
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from _command_line import parser_of, run
from detection_data import proposals_mat
from detection_data.factory import get_imdb
from detection_data.imdb import JoinedImdb, imdb
from detection_data.proposals import Proposals, write_proposals


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--imdb', required=True, metavar='NAME', help='the data set that they are of')
    parser.add_argument('--source', required=True, metavar='PATH', help='a .mat file, or a folder with one an image')
    parser.add_argument('--method', default='selective_search', help='name to give them (default: selective_search)')
    parser.add_argument(
        '--order',
        choices=('yx', 'xy'),
        default='yx',
        help='of coordinates: y1, x1, y2, x2 or x1, y1, x2, y2 (default: yx)',
    )
    parser.add_argument(
        '--max_boxes', type=int, help='at most so many an image (default: 2000 of a folder, all of a file)'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace proposals that are there')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not args.method.isidentifier() or args.method == 'gt':
        raise ValueError(f"--method {args.method!r}: expected a name of letters, digits and _, and not 'gt'")
    if args.max_boxes is not None and args.max_boxes < 1:
        raise ValueError(f'--max_boxes is {args.max_boxes}; expected 1 or more')
    data_set = get_imdb(args.imdb)
    if isinstance(data_set, JoinedImdb):
        raise ValueError(
            f'{args.imdb}: import the proposals of {" and ".join(p.spec for p in data_set.parts)} one by one'
        )
    path = data_set.proposals_path(args.method)
    if os.path.exists(path) and not args.overwrite:
        raise FileExistsError(f'{path} is there already; --overwrite replaces it')
    if os.path.isdir(args.source):
        max_boxes = args.max_boxes or 2000
        source = {'source': os.path.basename(os.path.abspath(args.source)), 'max_boxes': max_boxes}
        boxes = of_folder(data_set, args.source, args.order, max_boxes)
        write_proposals(path, data_set.image_index, boxes, args.method, source)
    elif os.path.isfile(args.source):
        proposals_mat.convert(
            args.source, path, data_set.image_index, args.method, data_set.image_size, args.order, args.max_boxes
        )
    else:
        raise FileNotFoundError(f'--source {args.source}: there is no such file or folder')
    made = Proposals(path)
    print(f'wrote {path}: {len(made)} images, {made.num_boxes / len(made):.0f} boxes an image')


def of_folder(data_set: imdb, folder: str, order: str, max_boxes: int) -> Iterator[np.ndarray]:
    """The boxes of each image, from the file named as the image."""
    for i in tqdm(range(data_set.num_images), unit='image', desc=data_set.name, disable=None):
        stem = os.path.splitext(os.path.basename(data_set.image_path_at(i)))[0]
        path = proposals_mat.image_file(folder, stem)
        yield proposals_mat.read_image_mat(path, *data_set.image_size(i), order, max_boxes)


if __name__ == '__main__':
    run(main)
