"""Flags that several commands take, and what they stand for (tools/caffe.cpp)."""

from __future__ import annotations

import argparse

import torch

import caffe
from caffe.glog import log


def add_gpu(parser: argparse.ArgumentParser) -> None:
    """Adds --gpu."""
    parser.add_argument('--gpu', default='', metavar='ID', help='compute on this GPU, numbered from 0 (default: CPU)')


def add_state(parser: argparse.ArgumentParser) -> None:
    """Adds --level and --stage."""
    parser.add_argument('--level', type=int, default=0, metavar='N', help="the net's level (default: 0)")
    parser.add_argument('--stage', default='', metavar='A,B', help="the net's stages")


def add_phase(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds --phase."""
    parser.add_argument('--phase', choices=('TRAIN', 'TEST'), default=default, help=f'default: {default}')


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f'a whole number above 0 is expected, not {text!r}')
    return int(text)


def stages(args: argparse.Namespace) -> list[str]:
    """The names that --stage lists."""
    return [name for name in args.stage.split(',') if name]


def phase(args: argparse.Namespace) -> int:
    """The phase that --phase names."""
    return {'TRAIN': caffe.TRAIN, 'TEST': caffe.TEST}[args.phase]


def net(args: argparse.Namespace, phase: int) -> caffe.Net:
    """The net that --model, --level and --stage describe."""
    return caffe.Net(args.model, phase, level=args.level, stages=stages(args))


def choose_device(gpu: str, where: str) -> None:
    """Sets mode and device: '' and 'cpu' are the CPU, a number is a GPU, 'all' the only one. Logs which."""
    if gpu in ('', 'cpu'):
        log('Use CPU.', where)
        caffe.set_mode_cpu()
        return
    ids = [str(i) for i in range(torch.cuda.device_count())] if gpu == 'all' else gpu.split(',')
    if not all(i.isdigit() for i in ids):
        raise ValueError(f'--gpu takes the number of a GPU, from 0; it was given {gpu!r}')
    if len(ids) > 1:
        raise ValueError(f'--gpu {gpu}: this command computes on one GPU; name one of them')
    caffe.set_device(int(ids[0]) if ids else 0)
    try:
        caffe.set_mode_gpu()
    except RuntimeError as error:
        raise RuntimeError(f'{error}. Here that is --gpu cpu') from None
    log(f'Using GPUs {ids[0] if ids else 0}', where)
