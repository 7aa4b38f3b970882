#!/usr/bin/env python3
"""Has a trained RPN propose boxes in the images of a data set, and writes them as a proposals file.

tools/rpn_generate.py --gpu 0 --def models/pascal_voc/VGG16/faster_rcnn_alt_opt/rpn_test.pt \\
    --net output/faster_rcnn_alt_opt/voc_2007_trainval/vgg16_rpn_stage1_iter_80000.caffemodel \\
    --imdb voc_2007_trainval --cfg experiments/cfgs/faster_rcnn_alt_opt.yml --method vgg16_rpn

With --method NAME the file goes to where the data set looks for proposals: TRAIN.PROPOSAL_METHOD NAME trains on them,
tools/eval_recall.py --method NAME tells what they are worth. Otherwise it is
output/<EXP_DIR>/<data set>/<weights>_proposals.h5, which tools/train_net.py takes as --proposals.
How many boxes there are is up to TEST.RPN_PRE_NMS_TOP_N, RPN_POST_NMS_TOP_N and the others of that name.
What is finished is kept: the same command goes on after an interruption. Several ranks (--gpu 0,1, cpu:2, torchrun)
share the images out; the file is the same.
"""

import _init_paths  # noqa: F401

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import ranks
from _command_line import add_flags, configure, parser_of, run

PIECE = 100  # images


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--def', dest='prototxt', required=True, metavar='FILE', help='test prototxt of the RPN')
    parser.add_argument('--net', dest='caffemodel', required=True, metavar='FILE', help='trained weights (.caffemodel)')
    parser.add_argument('--imdb', dest='imdb_name', default='voc_2007_test', help='data set (default: voc_2007_test)')
    parser.add_argument('--method', metavar='NAME', help='name of these proposals, to train and test on them by')
    parser.add_argument('--wait', action='store_true', help='wait until the weights exist')
    add_flags(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.method is not None and (not args.method.isidentifier() or args.method == 'gt'):
        raise ValueError(f"--method {args.method!r}: expected a name of letters, digits and _, and not 'gt'")
    if not os.path.isfile(args.prototxt):
        raise FileNotFoundError(f'there is no test prototxt {args.prototxt}')
    while args.wait and not os.path.exists(args.caffemodel):
        print(f'Waiting for {args.caffemodel} to exist...')
        time.sleep(10)
    if not os.path.isfile(args.caffemodel):
        raise FileNotFoundError(f'there are no trained weights {args.caffemodel}')
    configure(args)

    from detection_data.factory import get_imdb
    from detection_data.imdb import JoinedImdb
    from fast_rcnn.config import get_output_dir
    from fast_rcnn.test import load_net

    imdb = get_imdb(args.imdb_name)
    net = load_net(args.prototxt, args.caffemodel)
    for blob in ('rois', 'scores'):
        if blob not in net.outputs:
            raise ValueError(f'{args.prototxt}: its net has no output {blob}; give an RPN alone, such as rpn_test.pt')
    if args.method is None:
        generate(net, imdb, os.path.join(get_output_dir(imdb), net.name + '_proposals.h5'), args)
    else:
        for part in imdb.parts if isinstance(imdb, JoinedImdb) else [imdb]:
            generate(net, part, part.proposals_path(args.method), args)


def generate(net: Any, imdb: Any, path: str, args: argparse.Namespace) -> None:
    """Writes the proposals file of a data set; does nothing if it is there, made by the same net and settings."""
    from detection_data.image_file import note_cut_off, read_image
    from detection_data.proposals import Proposals, ProposalsError, write_proposals
    from fast_rcnn.config import cfg
    from fast_rcnn.training_lock import ProposalsLock
    from rpn.generate import im_proposals

    def image_at(path: str) -> np.ndarray:
        note_cut_off(path)
        return read_image(path)

    made_by = {
        'prototxt': digest(args.prototxt),
        'weights': digest(args.caffemodel),
        'settings': {key: cfg.TEST[key] for key in sorted(cfg.TEST) if key.startswith('RPN_')},
        'scale': [*cfg.TEST.SCALES, cfg.TEST.MAX_SIZE],
    }
    if os.path.exists(path):
        there = Proposals(path, made_for=imdb.spec, method=args.method)
        if there.parameters != made_by or there.image_ids != imdb.image_index:
            raise ProposalsError(f'{path} is there, but by another net, settings or of other images: remove it')
        print(f'{path} is there already')
    else:
        with contextlib.closing(ProposalsLock(path)) if ranks.is_root() else contextlib.nullcontext():
            folder = path + '.partial'
            boxes = in_pieces(
                folder,
                [json.dumps(made_by), *imdb.image_index],
                lambda i: im_proposals(net, image_at(imdb.image_path_at(i)))[0],
            )
            if ranks.is_root():
                write_proposals(path, imdb.image_index, boxes, args.method or 'rpn', made_by)
                shutil.rmtree(folder)
            ranks.from_root(None)
    made = Proposals(path)
    print(f'{len(made)} images, {made.num_boxes / max(len(made), 1):.0f} boxes an image')
    print(f'Wrote RPN proposals to {path}')
    if made.num_boxes == 0:
        print('Note: there is no box in it; is this net trained, and TEST.RPN_MIN_SIZE below the size of the images?')


def in_pieces(folder: str, key: list[str], boxes_of: Callable[[int], np.ndarray]) -> Iterator[np.ndarray]:
    """`boxes_of(i)` of every image; by the hundred they are kept in `folder`, for a later run with the same `key`.

    Of several ranks each makes every so many-th piece, and all have to see the folder.

    `key` is a text that says what makes the boxes, and the ids of the images.
    """
    from tqdm import tqdm

    import whole_file

    key_digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    count = len(key) - 1
    os.makedirs(folder, exist_ok=True)
    size = max(1, min(PIECE, -(-count // ranks.count())))  # of a small set each rank gets something
    parts = [range(start, min(start + size, count)) for start in range(0, count, size)]
    pieces = [(os.path.join(folder, f'{key_digest[:16]}_{images.start}_{images.stop}.npz'), images) for images in parts]
    mine = pieces[ranks.rank() :: ranks.count()]
    with tqdm(
        total=sum(len(images) for _, images in mine), desc='im_proposals', unit='image', disable=None
    ) as progress:
        for path, images in mine:
            if not os.path.exists(path):
                piece = []
                for i in images:
                    piece.append(boxes_of(i))
                    progress.update()
                with whole_file.in_memory(path) as file:
                    np.savez(file, counts=[len(boxes) for boxes in piece], boxes=np.concatenate(piece))
    ranks.share(None)  # the pieces of all are in the folder, which ranks on other machines have to see too
    return (boxes for path, _ in pieces for boxes in _boxes_in(path))


def _boxes_in(path: str) -> list[np.ndarray]:
    with np.load(path, allow_pickle=False) as saved:
        return np.split(saved['boxes'], np.cumsum(saved['counts'])[:-1])


def digest(path: str) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


if __name__ == '__main__':
    run(main, parse_args)
