#!/usr/bin/env python3
"""Writes a detector as one ONNX file: image and proposals in, boxes, scores and classes out.

tools/export_onnx.py --def models/demo/small/fast_rcnn_ohem/test.prototxt \\
    --net output/demo_ohem/demo_train/small_fast_rcnn_ohem_iter_1400.caffemodel \\
    --cfg experiments/cfgs/demo_ohem.yml --out detector.onnx

Settings are those that the weights bring along, then --cfg and --set. docs/export.md shows how to run it, with
onnxruntime and NumPy alone. A net with an RPN takes the image alone.
"""

import _init_paths

import argparse
import os
import subprocess
import sys
import tempfile
from typing import Any

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


def without_proposal_layer(prototxt: str) -> tuple[str, Any]:
    """The text of a net with an input rois in place of its ProposalLayer, and that as a `Rpn`; None if it has none.

    Raises ValueError for one that the file cannot hold.
    """
    from google.protobuf import text_format

    from caffe.proto import caffe_pb2
    from fast_rcnn.onnx_detector import Rpn
    from rpn.generate_anchors import generate_anchors
    from rpn.layer import param_str_of

    net = caffe_pb2.NetParameter()
    with open(prototxt, encoding='utf-8', errors='replace') as file:
        text = file.read()
    try:
        text_format.Parse(text, net)
    except text_format.ParseError:
        return text, None  # the export says what is wrong with it
    found = [i for i, layer in enumerate(net.layer) if layer.python_param.layer == 'ProposalLayer']
    if not found:
        return text, None
    layer = net.layer[found[0]]
    if len(found) > 1 or list(layer.top) != ['rois'] or len(layer.bottom) != 3:
        raise ValueError(
            f'{prototxt}: a detector as an ONNX file has one ProposalLayer, with three bottoms and the top rois; '
            f'{layer.name} has {list(layer.bottom)} and {list(layer.top)}'
        )
    given = param_str_of(layer.python_param.param_str, 'ProposalLayer')
    anchors = generate_anchors(**{key: given[key] for key in ('ratios', 'scales') if key in given})
    rpn = Rpn(layer.bottom[0], layer.bottom[1], int(given['feat_stride']), anchors)
    rois = caffe_pb2.LayerParameter(name='rois', type='Input', top=['rois'])
    rois.input_param.shape.add(dim=[1, 5])
    layer.CopyFrom(rois)
    return text_format.MessageToString(net), rpn


def net_as_onnx(prototxt: str, caffemodel: str, blobs: list[str]) -> Any:
    """The net as `python -m caffe export` writes it. Raises RuntimeError with what that says of an error."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, 'net.onnx')
        paths = os.pathsep.join([_init_paths.LIB, *filter(None, [os.environ.get('PYTHONPATH')])])
        command = ['-m', 'caffe', 'export', '--def', prototxt, '--net', caffemodel, '--out', target]
        command += ['--blobs', ','.join(blobs)] if blobs else []
        done = subprocess.run(
            [sys.executable, *command], env={**os.environ, 'PYTHONPATH': paths}, capture_output=True, text=True
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise RuntimeError(
                said[-1].removeprefix('caffe export: error: ')
                if said
                else f'python {" ".join(command)} ended with {done.returncode}'
            )
        return onnx.load(target)


def main() -> None:
    args = parse_args()
    for path in filter(None, (args.prototxt, args.caffemodel, args.classes)):
        if not os.path.isfile(path):
            raise FileNotFoundError(f'there is no file {path}')
    folder = os.path.dirname(args.out) or '.'
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'--out {args.out}: there is no folder {folder}: make it first')
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError:
        raise ImportError("the package onnx is missing: pip install onnx (the project's extra [export])") from None
    from fast_rcnn.config import cfg, cfg_from_dict
    from fast_rcnn.model_card import class_names, follow_classifier, note_other_settings, read_card

    card = read_card(args.caffemodel)
    if card is not None:  # --cfg and --set go on top
        cfg_from_dict(card.settings, f'what {args.caffemodel} says of its settings')
    configure(args)

    import whole_file
    from detection_data.pascal_voc import listed_classes
    from fast_rcnn.onnx_detector import detector_model

    whole_file.check_place(args.out)
    note_other_settings(card, args.caffemodel)
    follow_classifier(card, args.caffemodel)
    listed = None if args.classes is None else listed_classes(args.classes)
    names = class_names(card, args.caffemodel, listed)
    if names is None:
        raise ValueError(f'{args.caffemodel} does not name its classes: give their names as --classes FILE')
    about = {'dataset': card.dataset} if card else {}
    text, rpn = without_proposal_layer(args.prototxt)
    if (rpn is not None) != cfg.TEST.HAS_RPN:
        raise ValueError(
            f'{args.prototxt} has {"a" if rpn else "no"} ProposalLayer, but TEST.HAS_RPN is {cfg.TEST.HAS_RPN}: give '
            'the --cfg of its training'
        )
    if rpn is None:
        net = net_as_onnx(args.prototxt, args.caffemodel, [])
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, os.path.basename(args.prototxt))
            whole_file.write_text(path, text)
            net = net_as_onnx(path, args.caffemodel, [rpn.probs, rpn.deltas])
    shape = next(value.type.tensor_type.shape for value in net.graph.output if value.name == 'cls_prob')
    if shape.dim[1].dim_value != len(names) + 1:
        raise ValueError(
            f'{args.prototxt} scores {shape.dim[1].dim_value} classes with the background, but there are '
            f'{len(names)} names: give the right --classes'
        )
    model = detector_model(net, ['__background__', *names], args.det_thresh, args.max_per_image, about, rpn)
    whole_file.write(args.out, model.SerializeToString())
    print(f'{args.out}: {len(names)} classes, {os.path.getsize(args.out) / 2**20:.1f} MiB')


if __name__ == '__main__':
    run(main)
