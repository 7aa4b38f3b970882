"""A detector as one ONNX file: what `im_detect` and `detections` do around the net, as a graph around the net's graph.

What is computed there is `onnx_text`; here it is put together, with the settings as constants.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence

import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

from fast_rcnn import onnx_text as text
from fast_rcnn.config import ConfigError, cfg

OPSET, IR_VERSION = 18, 8


@dataclasses.dataclass(frozen=True)
class Rpn:
    """A region proposal network: what its ProposalLayer is, in whose place the net has the input rois.

    probs, deltas: the layer's first two bottoms, outputs of the net; stride of the map in pixels of the net's input;
    anchors (A, 4) about its first cell.
    """

    probs: str
    deltas: str
    stride: int
    anchors: np.ndarray


def detector_model(
    net: onnx.ModelProto,
    classes: Sequence[str],
    thresh: float,
    max_per_image: int,
    about: dict[str, str],
    rpn: Rpn | None = None,
) -> onnx.ModelProto:
    """The detector around a net with inputs data (N, 3, H, W) and rois (R, 5), outputs cls_prob and bbox_pred.

    With `rpn` the detector proposes by itself: it has no input proposals, and the net has its two outputs as well.

    Inputs: image (H, W, 3) uint8 BGR; proposals (R, 4) float32, inclusive pixels of the image. Outputs: boxes (D, 4)
    float32 in its pixels, scores (D,), classes (D,) int64, numbers in `classes`, whose first is the background: class
    by class, best first, as `fast_rcnn.test.detections` lists them. Settings are those of cfg; with `about` they stand
    in the model's metadata. Raises ConfigError for settings that the file cannot follow.
    """
    _check_settings()
    settings = {
        'classes': list(classes), 'pixel_means': np.asarray(cfg.PIXEL_MEANS).ravel().tolist(),
        'scale': int(cfg.TEST.SCALES[0]), 'max_size': int(cfg.TEST.MAX_SIZE), 'nms': float(cfg.TEST.NMS),
        'thresh': float(thresh), 'max_per_image': int(max_per_image), 'dedup_boxes': float(cfg.DEDUP_BOXES),
        'bbox_reg': bool(cfg.TEST.BBOX_REG), 'bbox_vote': bool(cfg.TEST.BBOX_VOTE),
    }  # fmt: skip
    dedup = text.DEDUP if cfg.DEDUP_BOXES > 0 else text.NO_DEDUP
    before = text.BEFORE % {
        'across': text.ALONG.format('across', 'width'), 'down': text.ALONG.format('down', 'height'),
        'rois': '' if rpn else text.PROJECTED + dedup,
        'more_in': '' if rpn else ', float[R, 4] proposals', 'more_out': '' if rpn else ', float[r, 5] rois',
    }  # fmt: skip
    after = text.AFTER % {
        'moved': text.MOVED if cfg.TEST.BBOX_REG else text.UNMOVED,
        'most': text.MOST if max_per_image > 0 else text.ALL,
        'voted': text.VOTED if cfg.TEST.BBOX_VOTE else text.UNVOTED,
    }
    first, last = (onnx.parser.parse_graph(written) for written in (before, after))
    middle = list(onnx.parser.parse_graph(text.RPN).node) if rpn else []
    outside = {'image', 'proposals', 'boxes', 'scores', 'classes', *_names(net.graph, ('data', 'rois'), False)}
    outside |= _names(net.graph, ('cls_prob', 'bbox_pred'), True)
    names = {name: name for name in outside}
    if rpn:
        _names(net.graph, (rpn.probs, rpn.deltas), True)
    values = {**_constants(settings), **(_constants_of_rpn(rpn) if rpn else {})}
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    _rename([*first.node, *last.node], names)
    own = {name for node in middle for name in node.output} - {'rois', 'some_boxes', 'inverse'}
    of_net = {'probs': rpn.probs, 'deltas': rpn.deltas} if rpn else {}
    _rename(middle, names | of_net | {name: f'{_PREFIX}rpn/{name}' for name in own})
    of_pixels, of_rois = _parted(net.graph.node)
    for constant in constants:
        constant.name = _PREFIX + constant.name
    used = {name for node in (*first.node, *middle, *last.node) for name in _read_by(node)}
    graph = helper.make_graph(
        [*first.node, *of_pixels, *middle, *of_rois, *last.node], net.graph.name, list(first.input), list(last.output),
        [*net.graph.initializer, *(c for c in constants if c.name in used)],
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', OPSET)], ir_version=IR_VERSION, producer_name='fast-rcnn-ohem',
        doc_string='image: uint8 BGR (H, W, 3)' + ('' if rpn else '; proposals: x1, y1, x2, y2, both pixels included'),
    )  # fmt: skip
    helper.set_model_props(model, {**{k: json.dumps(v) for k, v in settings.items()}, **about})
    return model


_PREFIX = 'detector/'


def _check_settings() -> None:
    """Raises ConfigError for what is not written as a graph."""
    wrong = {
        'TEST.SCALES': len(cfg.TEST.SCALES) > 1 and 'one scale',
        'TEST.BBOX_ITERATIONS': cfg.TEST.BBOX_ITERATIONS > 1 and '1',
        'TEST.SVM': cfg.TEST.SVM and 'False: a model of softmax',
        'TEST.AGNOSTIC': cfg.TEST.AGNOSTIC and 'False',
    }
    found = [f'{key} (it takes {takes})' for key, takes in wrong.items() if takes]
    if found:
        raise ConfigError(
            f'a detector as an ONNX file cannot follow {", ".join(found)}: set it with --set, or use test.py'
        )


def _names(graph: onnx.GraphProto, wanted: Iterable[str], outputs: bool) -> set[str]:
    """The names, if the net has them all. Raises ValueError otherwise."""
    there = [value.name for value in (graph.output if outputs else graph.input)]
    missing = [name for name in wanted if name not in there and not (name == 'bbox_pred' and not cfg.TEST.BBOX_REG)]
    if missing:
        kind = 'outputs' if outputs else 'inputs'
        raise ValueError(
            f'the net has no {" and no ".join(missing)} among its {kind} ({", ".join(there)}): no test net?'
        )
    return set(wanted)


def _constants(settings: dict) -> dict[str, np.ndarray]:
    number = len(settings['classes'])
    limit = np.float32(settings['nms'])
    if float(limit) < settings['nms']:  # to compare float32 numbers with it is to compare them with the setting
        limit = np.nextafter(limit, np.float32(np.inf))
    dedup = np.float32(settings['dedup_boxes'])
    return {
        'target_size': np.array([settings['scale']], np.float64),
        'max_size': np.array([settings['max_size']], np.float64),
        'pixel_means': np.array(settings['pixel_means'], np.float64), 'one_d': np.array([1], np.float64),
        'zero_d': np.array(0, np.float64), 'vote_limit': np.array(cfg.TEST.BBOX_VOTE_THRESH, np.float64),
        'half_d': np.array(0.5, np.float64), 'one_f': np.array(1, np.float32), 'half_f': np.array(0.5, np.float32),
        'zero_f': np.array(0, np.float32), 'one_i': np.array([1], np.int64), 'two_i': np.array([2], np.int64),
        'zero_i': np.array([0], np.int64), 'one': np.array(1, np.int64), 'zero': np.array(0, np.int64),
        'pad_left': np.array([0, 1, 0, 0], np.int64), 'dedup': np.array([1, dedup, dedup, dedup, dedup], np.float32),
        'cell_weights': np.array([1, 1e3, 1e6, 1e9, 1e12], np.float64), 'nms_limit': np.array(limit),
        'shape_scores': np.array([-1, number], np.int64), 'shape_boxes': np.array([-1, number, 4], np.int64),
        'num_classes': np.array([number], np.int64), 'num_objects': np.array(number - 1, np.int64),
        'endless': np.array(2**62, np.int64), 'yes': np.array(True), 'thresh': np.array(settings['thresh'], np.float32),
        'no_boxes': np.zeros((0, 4), np.float32), 'no_scores': np.zeros(0, np.float32),
        'no_classes': np.zeros(0, np.int64), 'lowest': np.array([-np.inf], np.float32),
        'most': np.array([settings['max_per_image']], np.int64),
    }  # fmt: skip


def _constants_of_rpn(rpn: Rpn) -> dict[str, np.ndarray]:
    test, count = cfg.TEST, len(rpn.anchors)
    limit = np.float32(test.RPN_NMS_THRESH)
    if float(limit) >= test.RPN_NMS_THRESH:  # the operator suppresses above its threshold, `nms` from it on
        limit = np.nextafter(limit, np.float32(-1))
    endless = 2**31 - 1
    return {
        'anchor_count': np.array([count], np.int64), 'anchor_count_2': np.array([2 * count], np.int64),
        'flat': np.array([-1], np.int64), 'rows_of_4': np.array([-1, 4], np.int64),
        'stride': np.array(rpn.stride, np.int64), 'down_the_map': np.array([-1, 1, 1, 1], np.int64),
        'across_the_map': np.array([1, -1, 1, 1], np.int64), 'anchors': np.asarray(rpn.anchors, np.float64),
        'rpn_min_size': np.array(test.RPN_MIN_SIZE, np.float32), 'first_two': np.array([0, 1], np.int64),
        'pre_nms': np.array([test.RPN_PRE_NMS_TOP_N if test.RPN_PRE_NMS_TOP_N > 0 else endless], np.int64),
        'post_nms': np.array([test.RPN_POST_NMS_TOP_N if test.RPN_POST_NMS_TOP_N > 0 else endless], np.int64),
        'rpn_limit': np.maximum(np.array([limit], np.float32), 0), 'three_i': np.array([3], np.int64),
        'last_pixel': np.array([0, 0, 1, 1], np.float32),
    }  # fmt: skip


def _parted(nodes: Iterable[onnx.NodeProto]) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """The nodes that do not need to know the RoIs, and those that do."""
    known, parts = {'rois'}, ([], [])  # type: tuple[set, tuple[list, list]]
    for node in nodes:
        waits = not known.isdisjoint(_read_by(node))
        if waits:
            known.update(node.output)
        parts[waits].append(node)
    return parts


def _rename(nodes: Iterable[onnx.NodeProto], names: dict[str, str]) -> None:
    """Gives the values of nodes names that no net has; those of a graph within a node get its name before theirs."""
    for node in nodes:
        for values in (node.input, node.output):
            for i, name in enumerate(values):
                if name:
                    values[i] = names.get(name, _PREFIX + name)
        for attribute in node.attribute:
            if attribute.type != onnx.AttributeProto.GRAPH:
                continue
            body = attribute.g
            own = [v.name for v in body.input] + [name for inner in body.node for name in inner.output]
            inside = names | {name: f'{_PREFIX}{body.name}/{name}' for name in own}
            for value in (*body.input, *body.output):
                value.name = inside[value.name]
            _rename(body.node, inside)


def _read_by(node: onnx.NodeProto) -> Iterable[str]:
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _read_by(inner)
