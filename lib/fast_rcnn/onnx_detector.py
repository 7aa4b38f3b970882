"""A detector as one ONNX file: what `im_detect` and `detections` do around the net, as a graph around the net's graph.

Written in ONNX's text form, and in the float types of the NumPy code, so that the numbers are the same. Resizing is
arithmetic of its own, OpenCV's: ONNX's Resize has its factors in float32 and rounds sizes down.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence

import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

from fast_rcnn.config import ConfigError, cfg

OPSET, IR_VERSION = 18, 8

_BEFORE = """
around (uint8[H, W, 3] image%(more_in)s) => (float[1, 3, h, w] data%(more_out)s) {
  size_int = Shape <start = 0, end = 2> (image)
  size = Cast <to = 11> (size_int)
  short = ReduceMin <keepdims = 1> (size)
  long = ReduceMax <keepdims = 1> (size)
  by_short = Div (target_size, short)
  product = Mul (by_short, long)
  longest = Round (product)
  too_long = Greater (longest, max_size)
  by_long = Div (max_size, long)
  scale = Where (too_long, by_long, by_short)
  step = Div (one_d, scale)
  new_size_d = Mul (size, scale)
  new_size_r = Round (new_size_d)
  new_size = Cast <to = 7> (new_size_r)
  pixels = Cast <to = 11> (image)
  centred_d = Sub (pixels, pixel_means)
  centred = Cast <to = 1> (centred_d)
  height, width = Split <num_outputs = 2> (size_int)
  new_height, new_width = Split <num_outputs = 2> (new_size)
  %(across)s
  across_0 = Gather <axis = 1> (centred, across_low)
  across_1 = Gather <axis = 1> (centred, across_high)
  across_a = Mul (across_0, across_rest)
  across_b = Mul (across_1, across_part)
  wide = Add (across_a, across_b)
  %(down)s
  down_0 = Gather <axis = 0> (wide, down_low)
  down_1 = Gather <axis = 0> (wide, down_high)
  down_rest_3 = Unsqueeze (down_rest, one_i)
  down_part_3 = Unsqueeze (down_part, one_i)
  down_a = Mul (down_0, down_rest_3)
  down_b = Mul (down_1, down_part_3)
  resized = Add (down_a, down_b)
  planes = Transpose <perm = [2, 0, 1]> (resized)
  data = Unsqueeze (planes, zero_i)
  %(rois)s
}
"""

_PROJECTED = """
  boxes_d = Cast <to = 11> (proposals)
  scaled_d = Mul (boxes_d, scale)
  scaled = Cast <to = 1> (scaled_d)
  all_rois = Pad (scaled, pad_left)
"""

# What rpn.proposals.propose does; NMS by NonMaxSuppression, whose boxes are measured from corner to corner
_RPN = """
around (float[1, A2, h, w] probs, float[1, A4, h, w] deltas, double[2] new_size_r, double[1] scale)
    => (float[r, 5] rois, float[r, 4] some_boxes, int64[r] inverse) {
  objects = Slice (probs, anchor_count, anchor_count_2, one_i)
  objects_by_cell = Transpose <perm = [0, 2, 3, 1]> (objects)
  all_probs = Reshape (objects_by_cell, flat)
  deltas_by_cell = Transpose <perm = [0, 2, 3, 1]> (deltas)
  all_deltas = Reshape (deltas_by_cell, rows_of_4)
  map_height_1 = Shape <start = 2, end = 3> (probs)
  map_width_1 = Shape <start = 3, end = 4> (probs)
  map_height = Squeeze (map_height_1)
  map_width = Squeeze (map_width_1)
  rows_n = Range (zero, map_height, one)
  columns_n = Range (zero, map_width, one)
  rows_p = Mul (rows_n, stride)
  columns_p = Mul (columns_n, stride)
  rows_4 = Reshape (rows_p, down_the_map)
  columns_4 = Reshape (columns_p, across_the_map)
  no_rows = Mul (rows_4, zero)
  no_columns = Mul (columns_4, zero)
  down = Add (rows_4, no_columns)
  across = Add (columns_4, no_rows)
  shifts_i = Concat <axis = 3> (across, down, across, down)
  shifts = Cast <to = 11> (shifts_i)
  grid_4 = Add (shifts, anchors)
  grid_d = Reshape (grid_4, rows_of_4)
  grid = Cast <to = 1> (grid_d)
  x1, y1, x2, y2 = Split <axis = 1, num_outputs = 4> (grid)
  w0 = Sub (x2, x1)
  w = Add (w0, one_f)
  h0 = Sub (y2, y1)
  h = Add (h0, one_f)
  half_w = Mul (half_f, w)
  half_h = Mul (half_f, h)
  x = Add (x1, half_w)
  y = Add (y1, half_h)
  dx, dy, dw, dh = Split <axis = 1, num_outputs = 4> (all_deltas)
  grown_w = Exp (dw)
  grown_h = Exp (dh)
  new_w = Mul (grown_w, w)
  new_h = Mul (grown_h, h)
  way_x = Mul (dx, w)
  way_y = Mul (dy, h)
  new_x = Add (way_x, x)
  new_y = Add (way_y, y)
  reach_x = Mul (half_f, new_w)
  reach_y = Mul (half_f, new_h)
  left = Sub (new_x, reach_x)
  top = Sub (new_y, reach_y)
  right = Add (new_x, reach_x)
  bottom = Add (new_y, reach_y)
  moved_0 = Concat <axis = 1> (left, top, right, bottom)
  net_size = Cast <to = 1> (new_size_r)
  far = Sub (net_size, one_f)
  far_y, far_x = Split <num_outputs = 2> (far)
  limit = Concat <axis = 0> (far_x, far_y, far_x, far_y)
  not_below = Max (moved_0, zero_f)
  moved = Min (not_below, limit)
  low, high = Split <axis = 1, num_outputs = 2> (moved)
  sides_0 = Sub (high, low)
  sides = Add (sides_0, one_f)
  shortest = ReduceMin <keepdims = 0> (sides, one_i)
  scale_f = Cast <to = 1> (scale)
  least = Mul (rpn_min_size, scale_f)
  is_large = GreaterOrEqual (shortest, least)
  large_places = NonZero (is_large)
  large = Squeeze (large_places, zero_i)
  large_probs = Gather (all_probs, large)
  large_boxes = Gather (moved, large)
  large_count = Shape (large_probs)
  before_count = Min (large_count, pre_nms)
  best_probs, best = TopK <axis = 0> (large_probs, before_count)
  best_boxes = Gather (large_boxes, best)
  with_last_pixel = Add (best_boxes, last_pixel)
  as_batch = Unsqueeze (with_last_pixel, zero_i)
  before_n = Squeeze (before_count)
  ranks_i = Range (zero, before_n, one)
  ranks_f = Cast <to = 1> (ranks_i)
  falling = Neg (ranks_f)
  as_scores = Unsqueeze (falling, first_two)
  kept_3 = NonMaxSuppression (as_batch, as_scores, post_nms, rpn_limit)
  kept_1 = Slice (kept_3, two_i, three_i, one_i)
  kept = Reshape (kept_1, flat)
  proposed = Gather (best_boxes, kept)
  rois = Pad (proposed, pad_left)
  some_boxes = Div (proposed, scale_f)
  proposed_count_1 = Shape <start = 0, end = 1> (proposed)
  proposed_count = Squeeze (proposed_count_1)
  inverse = Range (zero, proposed_count, one)
}
"""

# The two pixels that each new pixel lies between, and the part of the second (cv::resize, INTER_LINEAR).
_ALONG = """
  {0}_count = Squeeze (new_{1})
  {0}_steps = Range (zero, {0}_count, one)
  {0}_steps_d = Cast <to = 11> ({0}_steps)
  {0}_middle = Add ({0}_steps_d, half_d)
  {0}_source_m = Mul ({0}_middle, step)
  {0}_source_d = Sub ({0}_source_m, half_d)
  {0}_source = Cast <to = 1> ({0}_source_d)
  {0}_floor = Floor ({0}_source)
  {0}_fraction = Sub ({0}_source, {0}_floor)
  {0}_floor_i = Cast <to = 7> ({0}_floor)
  {0}_last = Sub ({1}, one_i)
  {0}_before = Less ({0}_floor_i, zero)
  {0}_behind = GreaterOrEqual ({0}_floor_i, {0}_last)
  {0}_outside = Or ({0}_before, {0}_behind)
  {0}_part_1 = Where ({0}_outside, zero_f, {0}_fraction)
  {0}_part = Unsqueeze ({0}_part_1, one_i)
  {0}_rest = Sub (one_f, {0}_part)
  {0}_low_0 = Max ({0}_floor_i, zero)
  {0}_low = Min ({0}_low_0, {0}_last)
  {0}_next = Add ({0}_low, one)
  {0}_high = Min ({0}_next, {0}_last)
"""

# Proposals on the same cells of the feature map: one of them stands for all.
_DEDUP = """
  cells_f = Mul (all_rois, dedup)
  cells_r = Round (cells_f)
  cells = Cast <to = 11> (cells_r)
  weighed = Mul (cells, cell_weights)
  hash = ReduceSum <keepdims = 0> (weighed, one_i)
  distinct, first, inverse = Unique <sorted = 1> (hash)
  rois = Gather (all_rois, first)
  some_boxes = Gather (proposals, first)
"""
_NO_DEDUP = """
  rois = Identity (all_rois)
  some_boxes = Identity (proposals)
  rows = Shape <start = 0, end = 1> (proposals)
  row_count = Squeeze (rows)
  inverse = Range (zero, row_count, one)
"""

_AFTER = """
around (float[r, K] cls_prob, float[r, K4] bbox_pred, float[r, 4] some_boxes, int64[R] inverse, double[2] size)
    => (float[D, 4] boxes, float[D] scores, int64[D] classes) {
  %(moved)s
  by_class = Reshape (cls_prob, shape_scores)
  all_scores = Gather (by_class, inverse)
  all_boxes = Gather (moved, inverse)
  found_boxes, found_scores, found_classes = Loop <body = one_class (int64 i, bool go, float[a, 4] b, float[a] s,
        int64[a] c) => (bool go_on, float[d, 4] b_out, float[d] s_out, int64[d] c_out) {
    go_on = Identity (go)
    k = Add (i, one)
    column = Gather <axis = 1> (all_scores, k)
    boxes_k = Gather <axis = 1> (all_boxes, k)
    above = Greater (column, thresh)
    places = NonZero (above)
    rows = Squeeze (places, zero_i)
    candidates = Gather (column, rows)
    corners = Gather (boxes_k, rows)
    count = Shape (candidates)
    best, order = TopK <axis = 0> (candidates, count)
    sorted = Gather (corners, order)
    x1, y1, x2, y2 = Split <axis = 1, num_outputs = 4> (sorted)
    x1_t = Transpose (x1)
    y1_t = Transpose (y1)
    x2_t = Transpose (x2)
    y2_t = Transpose (y2)
    w0 = Sub (x2, x1)
    w = Add (w0, one_f)
    h0 = Sub (y2, y1)
    h = Add (h0, one_f)
    area = Mul (w, h)
    area_t = Transpose (area)
    right = Min (x2, x2_t)
    left = Max (x1, x1_t)
    bottom = Min (y2, y2_t)
    top = Max (y1, y1_t)
    iw0 = Sub (right, left)
    iw1 = Add (iw0, one_f)
    iw = Max (iw1, zero_f)
    ih0 = Sub (bottom, top)
    ih1 = Add (ih0, one_f)
    ih = Max (ih1, zero_f)
    shared = Mul (iw, ih)
    both = Add (area, area_t)
    union = Sub (both, shared)
    iou = Div (shared, union)
    reached = GreaterOrEqual (iou, nms_limit)
    n = Squeeze (count)
    ranks = Range (zero, n, one)
    ranks_t = Unsqueeze (ranks, one_i)
    later = Less (ranks_t, ranks)
    hit_b = And (reached, later)
    hit = Cast <to = 1> (hit_b)
    row_shape = Concat <axis = 0> (one_i, count)
    all_kept = Expand (one_f, row_shape)
    kept = Loop <body = settle (int64 j, bool unsettled, float[e, m] keep) => (bool again, float[f, p] keep_out) {
      hits = MatMul (keep, hit)
      alone = Equal (hits, zero_f)
      keep_out = Cast <to = 1> (alone)
      change = Sub (keep_out, keep)
      changes = Abs (change)
      total = ReduceSum <keepdims = 0> (changes)
      again = Greater (total, zero_f)
    }> (endless, yes, all_kept)
    kept_row = Squeeze (kept, zero_i)
    kept_places = NonZero (kept_row)
    chosen = Squeeze (kept_places, zero_i)
    b_k = Gather (sorted, chosen)
    s_k = Gather (best, chosen)
    chosen_shape = Shape (chosen)
    c_k = Expand (k, chosen_shape)
    %(voted)s
    b_out = Concat <axis = 0> (b, b_v)
    s_out = Concat <axis = 0> (s, s_k)
    c_out = Concat <axis = 0> (c, c_k)
  }> (num_objects, yes, no_boxes, no_scores, no_classes)
  %(most)s
}
"""

# What fast_rcnn.box_voting does, in its types: IoU in float64, weights in float32
_VOTED = """
    kept_d = Cast <to = 11> (b_k)
    voters_d = Cast <to = 11> (sorted)
    kx1, ky1, kx2, ky2 = Split <axis = 1, num_outputs = 4> (kept_d)
    turned = Transpose (voters_d)
    vx1, vy1, vx2, vy2 = Split <axis = 0, num_outputs = 4> (turned)
    v_right = Min (kx2, vx2)
    v_left = Max (kx1, vx1)
    v_bottom = Min (ky2, vy2)
    v_top = Max (ky1, vy1)
    v_wide_0 = Sub (v_right, v_left)
    v_wide_1 = Add (v_wide_0, one_d)
    v_wide = Max (v_wide_1, zero_d)
    v_high_0 = Sub (v_bottom, v_top)
    v_high_1 = Add (v_high_0, one_d)
    v_high = Max (v_high_1, zero_d)
    v_shared = Mul (v_wide, v_high)
    kw_0 = Sub (kx2, kx1)
    kw = Add (kw_0, one_d)
    kh_0 = Sub (ky2, ky1)
    kh = Add (kh_0, one_d)
    k_area = Mul (kw, kh)
    vw_0 = Sub (vx2, vx1)
    vw = Add (vw_0, one_d)
    vh_0 = Sub (vy2, vy1)
    vh = Add (vh_0, one_d)
    v_area = Mul (vw, vh)
    v_both = Add (k_area, v_area)
    v_union = Sub (v_both, v_shared)
    v_meet = Greater (v_shared, zero_d)
    v_divisor = Where (v_meet, v_union, one_d)
    v_iou = Div (v_shared, v_divisor)
    v_agree_b = GreaterOrEqual (v_iou, vote_limit)
    v_agree = Cast <to = 1> (v_agree_b)
    v_score = Max (best, zero_f)
    v_weights = Mul (v_agree, v_score)
    v_total = ReduceSum <keepdims = 1> (v_weights, one_i)
    v_weights_d = Cast <to = 11> (v_weights)
    v_sums = MatMul (v_weights_d, voters_d)
    v_some = Greater (v_total, zero_f)
    v_by = Where (v_some, v_total, one_f)
    v_by_d = Cast <to = 11> (v_by)
    v_means_d = Div (v_sums, v_by_d)
    v_means = Cast <to = 1> (v_means_d)
    b_v = Where (v_some, v_means, b_k)
"""
_UNVOTED = """
    b_v = Identity (b_k)
"""

_MOVED = """
  x1, y1, x2, y2 = Split <axis = 1, num_outputs = 4> (some_boxes)
  w0 = Sub (x2, x1)
  w = Add (w0, one_f)
  h0 = Sub (y2, y1)
  h = Add (h0, one_f)
  half_w = Mul (half_f, w)
  half_h = Mul (half_f, h)
  x = Add (x1, half_w)
  y = Add (y1, half_h)
  deltas = Reshape (bbox_pred, shape_boxes)
  dx3, dy3, dw3, dh3 = Split <axis = 2, num_outputs = 4> (deltas)
  dx = Squeeze (dx3, two_i)
  dy = Squeeze (dy3, two_i)
  dw = Squeeze (dw3, two_i)
  dh = Squeeze (dh3, two_i)
  grown_w = Exp (dw)
  grown_h = Exp (dh)
  new_w = Mul (grown_w, w)
  new_h = Mul (grown_h, h)
  way_x = Mul (dx, w)
  way_y = Mul (dy, h)
  new_x = Add (way_x, x)
  new_y = Add (way_y, y)
  reach_x = Mul (half_f, new_w)
  reach_y = Mul (half_f, new_h)
  left_0 = Sub (new_x, reach_x)
  top_0 = Sub (new_y, reach_y)
  right_0 = Add (new_x, reach_x)
  bottom_0 = Add (new_y, reach_y)
  left_3 = Unsqueeze (left_0, two_i)
  top_3 = Unsqueeze (top_0, two_i)
  right_3 = Unsqueeze (right_0, two_i)
  bottom_3 = Unsqueeze (bottom_0, two_i)
  stacked = Concat <axis = 2> (left_3, top_3, right_3, bottom_3)
  far_d = Sub (size, one_d)
  far = Cast <to = 1> (far_d)
  far_y, far_x = Split <num_outputs = 2> (far)
  limit = Concat <axis = 0> (far_x, far_y, far_x, far_y)
  not_below = Max (stacked, zero_f)
  moved = Min (not_below, limit)
"""
_UNMOVED = """
  each = Unsqueeze (some_boxes, one_i)
  repeats = Concat <axis = 0> (one_i, num_classes, one_i)
  moved = Tile (each, repeats)
"""

# The best so many of an image, and those that score as much as the last of them.
_MOST = """
  with_lowest = Concat <axis = 0> (found_scores, lowest)
  there = Shape (with_lowest)
  wanted = Min (there, most)
  strongest, strongest_places = TopK <axis = 0> (with_lowest, wanted)
  weakest = ReduceMin <keepdims = 1> (strongest)
  strong = GreaterOrEqual (found_scores, weakest)
  strong_places = NonZero (strong)
  strong_rows = Squeeze (strong_places, zero_i)
  boxes = Gather (found_boxes, strong_rows)
  scores = Gather (found_scores, strong_rows)
  classes = Gather (found_classes, strong_rows)
"""
_ALL = """
  boxes = Identity (found_boxes)
  scores = Identity (found_scores)
  classes = Identity (found_classes)
"""


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
    dedup = _DEDUP if cfg.DEDUP_BOXES > 0 else _NO_DEDUP
    before = _BEFORE % {
        'across': _ALONG.format('across', 'width'), 'down': _ALONG.format('down', 'height'),
        'rois': '' if rpn else _PROJECTED + dedup,
        'more_in': '' if rpn else ', float[R, 4] proposals', 'more_out': '' if rpn else ', float[r, 5] rois',
    }  # fmt: skip
    after = _AFTER % {
        'moved': _MOVED if cfg.TEST.BBOX_REG else _UNMOVED,
        'most': _MOST if max_per_image > 0 else _ALL,
        'voted': _VOTED if cfg.TEST.BBOX_VOTE else _UNVOTED,
    }
    first, last = (onnx.parser.parse_graph(text) for text in (before, after))
    middle = list(onnx.parser.parse_graph(_RPN).node) if rpn else []
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
