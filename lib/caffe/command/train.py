"""Trains a net as a solver prototxt says, from the beginning, from weights or from a snapshot."""

from __future__ import annotations

import argparse
import signal

import torch

import ranks
from caffe.command import flags, several
from caffe.files.prototxt import read_solver
from caffe.glog import log
from caffe.process.ranks import log_at_root
from caffe.solver import Solver, get_solver

EFFECTS = ('stop', 'snapshot', 'none')


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument('--solver', required=True, metavar='solver.prototxt')
    start = parser.add_mutually_exclusive_group()
    start.add_argument('--snapshot', default='', metavar='X.solverstate', help='go on from here')
    start.add_argument('--weights', default='', metavar='A.caffemodel,B', help='start from these weights')
    flags.add_state(parser)
    parser.add_argument(
        '--gpu',
        default='',
        metavar='ID',
        help="GPU, numbered from 0, or 'cpu' (default: as the solver says); a process each: 0,1 or all, or cpu:2",
    )
    parser.add_argument(
        '--sigint_effect', choices=EFFECTS, default='stop', help='what Ctrl-C does after the iteration (stop)'
    )
    parser.add_argument(
        '--sighup_effect', choices=EFFECTS, default='snapshot', help='what a hang-up does after it (snapshot)'
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    gpu = args.gpu or _gpu_of(read_solver(args.solver))
    flags.choose_device(several.device_of_this_rank(gpu), 'caffe.cpp:218')
    solver = get_solver(args.solver, level=args.level, stages=flags.stages(args))
    if args.snapshot:
        log(f'Resuming from {args.snapshot}', 'caffe.cpp:241')
        solver.restore(args.snapshot)
    for weights in args.weights.split(',') if args.weights else []:
        log(f'Finetuning from {weights}', 'caffe.cpp:155')
        solver.net.copy_from(weights)
        for net in solver.test_nets:
            net.copy_from(weights)
    _handle_signals(solver, args)
    several.exchange(solver)
    log_at_root('Starting Optimization', 'caffe.cpp:251')
    solver.solve()
    ranks.leave()
    log_at_root('Optimization Done.', 'caffe.cpp:254')


def _gpu_of(solver_param) -> str:
    """The GPU that a solver asks for. As in Caffe the default is GPU mode, but only where there is a GPU."""
    if solver_param.solver_mode != solver_param.GPU:
        return ''
    if not solver_param.HasField('solver_mode') and not torch.cuda.is_available():
        log('The solver states no solver_mode, and there is no GPU.', 'caffe.cpp:200', level='W')
        return ''
    return str(solver_param.device_id)


def _handle_signals(solver: Solver, args: argparse.Namespace) -> None:
    """Has signals ask the solver to act (SignalHandler)."""
    for name, effect in (('SIGINT', args.sigint_effect), ('SIGHUP', args.sighup_effect)):
        if not hasattr(signal, name):  # no SIGHUP on Windows
            continue
        action = signal.SIG_IGN if effect == 'none' else lambda *_, effect=effect: solver.request(effect)
        signal.signal(getattr(signal, name), action)
