#!/usr/bin/env python3
"""Serves a trained detector over HTTP: POST an image to /detect, JSON comes back; / is a page to drop a picture on.

tools/serve.py --gpu cpu --net output/demo_ohem/demo_train/small_fast_rcnn_ohem_iter_1400.caffemodel
curl --data-binary @photo.jpg http://127.0.0.1:8000/detect

It listens at this machine alone unless --host says otherwise. Ctrl-C or SIGTERM ends it, after what is running.
The net, its classes and settings are those that the weights bring along; --def, --classes, --cfg and --set go before
them. A net with an RPN proposes by itself; for others --proposals says how. docs/serving.md has the rest.
"""

import _init_paths  # noqa: F401

import argparse
import dataclasses
import os
from typing import Any

from _command_line import add_flags, configure, parser_of, run
from _detector import check_files, load_detector
from _project import add_project_flags, model_to_test, need, project_of
from command_line import environment

LEAST_SCORE, LEAST_OF_SVMS = 0.05, -1.5  # of what is found at all
SCORES, SCORES_OF_SVMS = (0, 1), (-100, 100)  # of what a request may ask for


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_project_flags(parser)
    parser.add_argument('--def', dest='prototxt', metavar='FILE', help='test prototxt (default: that of the weights)')
    parser.add_argument('--net', dest='caffemodel', metavar='FILE', help='trained weights (.caffemodel)')
    parser.add_argument(
        '--classes', metavar='FILE', help='names of the classes, one a line (default: those that the weights name)'
    )
    parser.add_argument('--host', default='127.0.0.1', metavar='ADDRESS', help='where to listen (default: 127.0.0.1)')
    parser.add_argument('--port', type=int, default=8000, metavar='N', help='(default: 8000; 0: any that is free)')
    parser.add_argument(
        '--proposals',
        choices=('auto', 'selective_search', 'selective_search_quality', 'random'),
        default='auto',
        help='where objects are looked for (default: auto, selective search; random boxes where OpenCV has none)',
    )
    parser.add_argument(
        '--det_thresh',
        type=float,
        help='least score of a detection, where a request does not say another (default: 0.6; of SVMs 0)',
    )
    limits = parser.add_argument_group('limits (docs/serving.md says what each is for)')
    for flag, default, kind, what in (
        ('--max_bytes', 16 * 2**20, int, 'of a request'),
        ('--max_pixels', 40_000_000, int, 'of an image'),
        ('--queue', 32, int, 'images that wait'),
        ('--connections', 64, int, 'open at the same time'),
        ('--send_seconds', 20.0, float, 'for a client to send a request'),
        ('--answer_seconds', 60.0, float, 'for the server to answer it'),
    ):
        limits.add_argument(flag, type=kind, default=default, metavar='N', help=f'{what} (default: {default:.9g})')
    limits.add_argument(
        '--batch',
        type=int,
        metavar='N',
        help='images that go through the net together (default: 1 on a CPU, 8 on a GPU)',
    )
    add_flags(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        from serving.app import make_app
        from serving.limits import Limits
        from serving.metrics import Metrics
        from serving.server import address_of, is_loopback, listen, serve
    except ModuleNotFoundError as error:
        if environment.advice(error):
            raise
        raise ImportError(
            f"""{error}: the server needs more: pip install ".[detector,serve]" in the project's folder"""
        ) from None
    limits = Limits(
        bytes=args.max_bytes,
        pixels=args.max_pixels,
        batch=8 if args.batch is None else args.batch,
        queue=args.queue,
        connections=args.connections,
        send_seconds=args.send_seconds,
        answer_seconds=args.answer_seconds,
    )
    project = project_of(args)
    if project is not None:
        args.prototxt = args.prototxt or project.path(args.method, 'test.prototxt')
    need(args, **({} if project else {'caffemodel': '--net'}))
    listener = listen(args.host, args.port)  # before the net is loaded: a port that is taken is known at once
    detector = detector_of(args, project)
    if args.batch is None and args.gpu == 'cpu':
        limits = dataclasses.replace(limits, batch=1)  # a CPU is full with one image, and slower with several
    detector.batch = limits.batch
    svm = detector.settings.TEST.SVM
    scores = SCORES_OF_SVMS if svm else SCORES
    detector.thresh = LEAST_OF_SVMS if svm else LEAST_SCORE
    if args.det_thresh is None:
        args.det_thresh = 0.0 if svm else 0.6
    if not scores[0] <= args.det_thresh <= scores[1]:
        raise ValueError(f'--det_thresh is {args.det_thresh}; expected {scores[0]} to {scores[1]}')
    import numpy as np

    detector(np.zeros((120, 160, 3), np.uint8))  # what does not fit shows now, and memory is there
    metrics = Metrics()
    name = os.path.basename(args.caffemodel)
    app = make_app(detector, name, detector.classes, args.det_thresh, limits, metrics, scores)
    if not is_loopback(listener):
        print(
            f'Note: whoever reaches {args.host} may send images and look at /metrics: there is no password and no '
            'encryption. For a network that is not yours put a proxy with both before it'
        )
    print(f'{name} is served at {address_of(listener)} (Ctrl-C ends it)', flush=True)
    status = serve(app, listener, limits, metrics)
    print('Goodbye', flush=True)
    return status


def detector_of(args: argparse.Namespace, project: Any) -> Any:
    """The detector that the flags name."""
    check_files(args)
    configure(args)
    if project is not None:
        args.caffemodel = args.caffemodel or model_to_test(project, args.method, args.run)
    return load_detector(args, None)


if __name__ == '__main__':
    run(main)
