"""Draws a net as a picture, layers and blobs (draw_net.py)."""

from __future__ import annotations

import argparse

from caffe.command import flags
from caffe.files.prototxt import read_net


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument('model', metavar='net.prototxt')
    parser.add_argument('picture', metavar='net.png', help='the file to write; its ending says the format')
    parser.add_argument('--rankdir', choices=('TB', 'BT', 'LR', 'RL'), default='LR', help='direction (default: LR)')
    parser.add_argument('--phase', choices=('TRAIN', 'TEST', 'ALL'), default='ALL', help='layers of this phase only')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    import caffe.draw

    phase = None if args.phase == 'ALL' else flags.phase(args)
    net, _ = read_net(args.model)
    caffe.draw.draw_net_to_file(net, args.picture, args.rankdir, phase)
    print(args.picture)
