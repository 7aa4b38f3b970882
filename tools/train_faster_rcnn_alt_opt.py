#!/usr/bin/env python3
"""Trains a Faster R-CNN network in four stages (NIPS 2015, section 3.2): RPN, Fast R-CNN, and both again.

tools/train_faster_rcnn_alt_opt.py --gpu 0 --net_name VGG16 --weights data/imagenet_models/VGG16.v2.caffemodel \\
    --imdb voc_2007_trainval --cfg experiments/cfgs/faster_rcnn_alt_opt.yml

Fast R-CNN learns on proposals of the RPN before it. In the last two stages the convolutions stay as they are, so that
RPN and detector share them. The nets are those of MODELS_DIR/<net_name>/faster_rcnn_alt_opt; iterations follow from
the names of the solvers (60k80k: 80000).
Every stage is a command of its own, printed before it runs, and may be interrupted: the same command goes on.
The detector is copied to output/<EXP_DIR>/<data set>/<net_name>_faster_rcnn_final.caffemodel.
"""

import _init_paths  # noqa: F401

import argparse
import contextlib
import glob
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import whole_file
from _command_line import add_flags, configure, parser_of, run
from _start_weights import check_is_there
from ranks.devices import devices_of

TOOLS = os.path.dirname(os.path.abspath(__file__))
# Nothing is proposed beforehand, and there are no boxes of RoIs to regress
RPN_SETTINGS = (
    *('TRAIN.HAS_RPN', 'True', 'TRAIN.BBOX_REG', 'False', 'TRAIN.PROPOSAL_METHOD', 'gt'),
    *('TRAIN.IMS_PER_BATCH', '1'),
)
GENERATE_SETTINGS = ('TEST.RPN_PRE_NMS_TOP_N', '-1', 'TEST.RPN_POST_NMS_TOP_N', '2000')
FAST_RCNN_SETTINGS = ('TRAIN.HAS_RPN', 'False', 'TRAIN.PROPOSAL_METHOD', 'rpn', 'TRAIN.IMS_PER_BATCH', '2')


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--net_name', required=True, help='network, a folder of the models (such as VGG16 or ZF)')
    parser.add_argument(
        '--weights',
        dest='pretrained_model',
        metavar='FILE',
        help="ImageNet weights to start from; 'none': from the nets' fillers, or from zeros",
    )
    parser.add_argument('--imdb', dest='imdb_name', default='voc_2007_trainval', help='data set to train on')
    parser.add_argument('--models', metavar='FOLDER', help='where the nets are (default: MODELS_DIR of the settings)')
    parser.add_argument(
        '--iters',
        nargs=4,
        type=int,
        metavar='N',
        help='iterations of the four stages, RPN, Fast R-CNN, RPN, Fast R-CNN, instead of those in names of solvers',
    )
    add_flags(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    if args.iters is not None and min(args.iters) < 1:
        raise ValueError(f'--iters {" ".join(map(str, args.iters))}: each stage needs an iteration at least')
    check_is_there(args.pretrained_model)
    of_stages = args.gpu  # several devices are for the stages: this process computes nothing
    if args.gpu is not None:
        args.gpu = devices_of(args.gpu)[0]
    configure(args)
    args.gpu = of_stages or args.gpu

    from detection_data.factory import get_imdb
    from fast_rcnn.config import cfg, get_output_dir
    from fast_rcnn.solver_file import read_solver

    folder = os.path.join(args.models or cfg.MODELS_DIR, args.net_name, 'faster_rcnn_alt_opt')
    rpn_test = os.path.join(folder, 'rpn_test.pt')
    if not os.path.isfile(rpn_test):
        raise FileNotFoundError(f'there is no {rpn_test}: is --net_name right, and --models?')
    output = get_output_dir(get_imdb(args.imdb_name))
    stages = Stages(args, output)
    weights, proposals = args.pretrained_model, None
    for number in (1, 2):
        for kind in ('rpn', 'fast_rcnn'):
            solver, iterations = solver_of(folder, number, kind)
            if args.iters is not None:
                iterations = args.iters[2 * (number - 1) + (kind == 'fast_rcnn')]
            prefix = f'{read_solver(solver).snapshot_prefix}_stage{number}'
            settings = ('TRAIN.SNAPSHOT_INFIX', f'stage{number}')
            origin = 'random weights' if weights in (None, 'none') else weights
            print(f'~~~~ Stage {number}, {kind}: {iterations} iterations from {origin}')
            if kind == 'rpn':
                model = stages.train(solver, prefix, weights, iterations, [], RPN_SETTINGS + settings)
                print(f'~~~~ Stage {number}, proposals of {model}')
                proposals = stages.generate(rpn_test, model)
            else:
                assert proposals is not None  # of the rpn stage before
                more = ['--proposals', proposals]
                model = stages.train(solver, prefix, weights, iterations, more, FAST_RCNN_SETTINGS + settings)
            # Both nets of stage 1 start from ImageNet, those of stage 2 from the one trained before them
            weights = args.pretrained_model if (number, kind) == (1, 'rpn') else model
    final = os.path.join(output, f'{args.net_name}_faster_rcnn_final.caffemodel')
    with whole_file.beside(final) as made:
        shutil.copyfile(model, made)
    print(f'Final model: {final}')
    return 0


def solver_of(folder: str, number: int, kind: str) -> tuple[str, int]:
    """The solver of a stage and the iterations that its name tells: 60k80k, an lr step after 60000 of 80000."""
    found = glob.glob(os.path.join(folder, f'stage{number}_{kind}_solver*.pt'))
    said = [re.search(r'solver\d+k(\d+)k\.pt$', path) for path in found]
    if len(found) != 1 or said[0] is None:
        raise ValueError(f'{folder} has {len(found)} files stage{number}_{kind}_solver<N>k<N>k.pt, expected one')
    return found[0], 1000 * int(said[0].group(1))


class Stages:
    """Runs the stages as commands; those that have been run before are gone on with, or passed over.

    What made a file is written down beside it, <file>.command: other settings than last time are an error.
    """

    def __init__(self, args: argparse.Namespace, output: str):
        self._output = output
        self._common = ['--gpu', args.gpu, '--imdb', args.imdb_name]
        self._common += [] if args.cfg_file is None else ['--cfg', args.cfg_file]
        self._common += [] if args.run is None else ['--run', args.run]
        self._settings = list(args.set_cfgs)

    def train(
        self, solver: str, prefix: str, weights: str | None, iterations: int, more: list[str], settings: tuple
    ) -> str:
        """The model that a training stage ends with."""
        model = os.path.join(self._output, f'{prefix}_iter_{iterations}.caffemodel')
        command = ['train_net.py', '--solver', solver, '--iters', str(iterations), *more]
        start = [] if weights is None else ['--weights', weights]
        there = [os.path.join(self._output, name) for name in os.listdir(self._output)]
        resume = sorted(
            (int(found.group(1)), path)
            for path in there
            if (found := re.search(re.escape(prefix) + r'_resume_iter_(\d+)\.solverstate(\.h5)?$', path))
        )
        start_now = ['--snapshot', resume[-1][1]] if resume else start
        self._run(model, [*command, *start], [*command, *start_now], settings)
        return model

    def generate(self, prototxt: str, model: str) -> str:
        """The proposals file that an RPN's stage ends with."""
        path = model.removesuffix('.caffemodel') + '_proposals.h5'
        command = ['rpn_generate.py', '--def', prototxt, '--net', model]
        self._run(path, command, command, GENERATE_SETTINGS)
        return path

    def _run(self, target: str, whole: list[str], now: list[str], settings: tuple) -> None:
        after = [*self._common, '--set', *self._settings, *settings]
        note = target + '.command'
        if os.path.exists(note):
            with open(note, encoding='utf-8') as file:
                before = json.load(file)
            if before != [*whole, *after]:
                raise ValueError(
                    f'{target} was made, or begun, by another command ({note}): give another EXP_DIR, or remove what '
                    f'is in {self._output}. It was: {shlex.join(before)}'
                )
        elif whole != now:
            raise ValueError(
                f'{self._output} has snapshots of this stage by a run of another kind: give another EXP_DIR'
            )
        if os.path.exists(target) and os.path.exists(note):
            print(f'{target} is there already')
            return
        whole_file.write_text(note, json.dumps([*whole, *after]))
        print('+ tools/' + shlex.join([*now, *after]), flush=True)
        # A process for each stage: whatever memory Caffe held is free again
        status = run_to_its_end([sys.executable, os.path.join(TOOLS, now[0]), *now[1:], *after])
        if status == 130:
            raise KeyboardInterrupt('stopped; the same command goes on')
        if status:
            ended = f'was ended by {signal.Signals(-status).name}' if status < 0 else f'ended with status {status}'
            raise RuntimeError(f'this stage {ended}; the same command goes on with it')


def run_to_its_end(command: list[str]) -> int:
    """The status of a command. Ctrl-C and SIGTERM are for it: it writes a snapshot, which this process waits for."""
    process = subprocess.Popen(command)
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # the command got it too
                return process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == '__main__':
    run(main)
