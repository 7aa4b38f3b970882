#!/usr/bin/env python3
"""Trains a Fast R-CNN or Faster R-CNN network, with OHEM where the cfg and the solver's net say so.

tools/train_net.py --gpu cpu --solver models/demo/small/fast_rcnn_ohem/solver.prototxt \\
    --imdb folder:data/demo:train --cfg experiments/cfgs/demo_ohem.yml --iters 1000

Several ranks share the passes (iter_size) of an iteration: --gpu 0,1 starts two, one a GPU, --gpu cpu:2 two on the
CPU; torchrun --nnodes 2 --nproc-per-node 4 tools/train_net.py ... starts them on several machines. docs/scaling.md
"""

import _init_paths  # noqa: F401

import argparse
import os

import ranks
from _command_line import add_flags, configure, parser_of, run
from _project import add_project_flags, make_proposals, need, project_of
from _start_weights import check_is_there


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_project_flags(parser)
    parser.add_argument('--solver', metavar='FILE', help='solver prototxt')
    parser.add_argument(
        '--iters', dest='max_iters', type=int, help="number of iterations (default: 40000, or the project's)"
    )
    parser.add_argument(
        '--weights',
        dest='pretrained_model',
        metavar='FILE',
        help="start from these weights (.caffemodel); 'none': from the net's fillers, or from zeros",
    )
    parser.add_argument('--snapshot', metavar='FILE', help='resume from this .solverstate')
    parser.add_argument('--imdb', dest='imdb_name', help="data set (default: voc_2007_trainval, or the project's)")
    parser.add_argument(
        '--val',
        metavar='IMDB',
        help="test on this data set every TRAIN.VAL_ITERS iterations (default: none, or the project's; 'none': none)",
    )
    parser.add_argument(
        '--def',
        dest='prototxt',
        metavar='FILE',
        help='test prototxt, for --val (default: test.prototxt beside the solver)',
    )
    parser.add_argument(
        '--proposals', metavar='FILE', help='proposals file to train on, such as tools/rpn_generate.py writes'
    )
    parser.add_argument('--rand', dest='randomize', action='store_true', help='a random seed instead of RNG_SEED')
    parser.add_argument(
        '--tensorboard',
        action='store_true',
        help='write TensorBoard event files too (pip install tensorboard)',
    )
    parser.add_argument(
        '--scale_batch',
        action='store_true',
        help='with several ranks: each makes a whole mini-batch, the learning rate and the iterations are scaled',
    )
    parser.add_argument(
        '--wire',
        choices=('float32', 'bf16'),
        default='float32',
        help='what gradients travel as between ranks: bf16 halves the bytes, and rounds (default: float32)',
    )
    add_flags(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    project = project_of(args)
    if project is not None:
        args.solver = args.solver or project.path(args.method, 'solver.prototxt')
        args.imdb_name = args.imdb_name or project.imdb('train')
        args.max_iters = project.iterations_of(args.method) if args.max_iters is None else args.max_iters
        if args.val is None and 'val' in project.splits:
            args.val = project.imdb('val')
        if args.snapshot is None:
            args.pretrained_model = args.pretrained_model or project.weights
    need(args, solver='--solver')
    args.imdb_name = args.imdb_name or 'voc_2007_trainval'
    args.max_iters = 40000 if args.max_iters is None else args.max_iters
    if args.max_iters < 1:
        raise ValueError(f'--iters is {args.max_iters}; expected 1 or more')
    for path, what in (
        (args.solver, 'solver prototxt'),
        (args.snapshot, 'solver state (--snapshot)'),
        (args.proposals, 'proposals file (--proposals)'),
    ):
        if path is not None and not os.path.isfile(path):
            raise FileNotFoundError(f'there is no {what} {path}')
    check_is_there(args.pretrained_model)
    if args.prototxt is not None and args.val in (None, 'none'):
        raise ValueError('--def names the net for testing on --val: give that too')
    if args.snapshot is not None and args.pretrained_model is not None:
        raise ValueError('--snapshot resumes with the weights that the state names: leave out --weights')
    configure(args)

    from detection_data.factory import get_imdb
    from fast_rcnn.config import cfg, output_dir_of
    from fast_rcnn.model_card import match_classes, read_card_of_state
    from fast_rcnn.train import get_training_roidb, train_net
    from fast_rcnn.validation import Validation
    from fast_rcnn.who_proposes import check_training

    if args.randomize:
        cfg.RNG_SEED = ranks.from_root(int.from_bytes(os.urandom(4), 'little'))
        print(f'RNG_SEED is {cfg.RNG_SEED} for this run')
    if project is not None:
        make_proposals(*map(project.imdb, project.splits))
    check_training(args.solver)
    imdb = get_imdb(args.imdb_name)
    imdb.set_proposal_method(cfg.TRAIN.PROPOSAL_METHOD, args.proposals)
    if args.snapshot is not None:
        match_classes(imdb, read_card_of_state(args.snapshot), args.snapshot)
    print(f'Loaded dataset `{imdb.name}` for training')
    roidb = get_training_roidb(imdb)
    validation = None
    if args.val not in (None, 'none'):
        val = get_imdb(args.val)
        val.set_proposal_method(cfg.TEST.PROPOSAL_METHOD)
        prototxt = args.prototxt or os.path.join(os.path.dirname(args.solver), 'test.prototxt')
        validation = Validation(prototxt, val)
        print(f'Validation on `{val.name}`: {val.num_images} images')
    output_dir = output_dir_of(imdb)
    print(f'Output will be saved to `{output_dir}`')
    train_net(
        args.solver,
        roidb,
        output_dir,
        pretrained_model=args.pretrained_model,
        max_iters=args.max_iters,
        snapshot=args.snapshot,
        tensorboard=args.tensorboard,
        scale_batch=args.scale_batch,
        wire=args.wire,
        validation=validation,
    )


if __name__ == '__main__':
    run(main, parse_args)
