#!/usr/bin/env python3
"""Writes a detector as one ONNX file: image and proposals in, boxes, scores and classes out.

tools/export_onnx.py --def models/demo/small/fast_rcnn_ohem/test.prototxt \\
    --net output/demo_ohem/demo_train/small_fast_rcnn_ohem_iter_1400.caffemodel \\
    --cfg experiments/cfgs/demo_ohem.yml --out detector.onnx

docs/export.md shows how to run it, with onnxruntime and NumPy alone.
"""

import _init_paths

import argparse
import os
import subprocess
import sys
import tempfile

from _command_line import add_flags, configure, parser_of, run


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--def', dest='prototxt', metavar='FILE', required=True, help='test prototxt')
    parser.add_argument('--net', dest='caffemodel', metavar='FILE', required=True, help='trained weights (.caffemodel)')
    parser.add_argument('--out', metavar='FILE', required=True, help='the file to write (.onnx)')
    parser.add_argument(
        '--classes', metavar='FILE', help='names of the classes, one a line (default: those that the weights name)'
    )
    parser.add_argument('--det_thresh', type=float, default=0.05, help='least score of a detection (default: 0.05)')
    parser.add_argument(
        '--max_per_image', type=int, default=100, metavar='N', help='most detections of an image (default: 100; 0: all)'
    )
    add_flags(parser)
    return parser.parse_args()


def net_as_onnx(prototxt: str, caffemodel: str):
    """The net as `python -m caffe export` writes it. Raises RuntimeError with what that says of an error."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, 'net.onnx')
        paths = os.pathsep.join([_init_paths.LIB, *filter(None, [os.environ.get('PYTHONPATH')])])
        command = ['-m', 'caffe', 'export', '--def', prototxt, '--net', caffemodel, '--out', target]
        done = subprocess.run(
            [sys.executable, *command], env={**os.environ, 'PYTHONPATH': paths}, capture_output=True, text=True
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise RuntimeError(said[-1] if said else f'python {" ".join(command)} ended with {done.returncode}')
        return onnx.load(target)


def main() -> None:
    args = parse_args()
    for path in filter(None, (args.prototxt, args.caffemodel, args.classes)):
        if not os.path.isfile(path):
            raise FileNotFoundError(f'there is no file {path}')
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError:
        raise ImportError("the package onnx is missing: pip install onnx (the project's extra [export])") from None
    configure(args)

    import whole_file
    from detection_data.pascal_voc import listed_classes
    from fast_rcnn.model_card import class_names, follow_classifier, note_other_settings, read_card
    from fast_rcnn.onnx_detector import detector_model

    card = read_card(args.caffemodel)
    note_other_settings(card, args.caffemodel)
    follow_classifier(card, args.caffemodel)
    listed = None if args.classes is None else listed_classes(args.classes)
    names = class_names(card, args.caffemodel, listed, args.classes)
    if names is None:
        raise ValueError(f'{args.caffemodel} does not name its classes: give their names as --classes FILE')
    about = {'dataset': card.dataset} if card else {}
    net = net_as_onnx(args.prototxt, args.caffemodel)
    shape = next(value.type.tensor_type.shape for value in net.graph.output if value.name == 'cls_prob')
    if shape.dim[1].dim_value != len(names) + 1:
        raise ValueError(
            f'{args.prototxt} scores {shape.dim[1].dim_value} classes with the background, but there are '
            f'{len(names)} names: give the right --classes'
        )
    model = detector_model(net, ['__background__', *names], args.det_thresh, args.max_per_image, about)
    whole_file.write(args.out, model.SerializeToString())
    print(f'{args.out}: {len(names)} classes, {os.path.getsize(args.out) / 2**20:.1f} MiB')


if __name__ == '__main__':
    run(main)
