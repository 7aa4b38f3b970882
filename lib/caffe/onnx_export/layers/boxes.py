"""PriorBox, DetectionOutput, Proposal (caffe.layers.ssd, .ssd_detection, .proposal): boxes of the cells of a map."""

from __future__ import annotations

import numpy as np

from caffe.onnx_export.graph import Dim, Graph
from caffe.onnx_export.recipes import NoEquivalentError, Place, exports


def _numbers_to(g: Graph, n: Dim) -> str:
    """0 ... n - 1, int64."""
    return g.op('Range', g.constant(0, np.int64), g.op('Squeeze', g.as_value([n])), g.constant(1, np.int64))


@exports('PriorBox')
def prior_box(at: Place) -> str:
    """A constant; arithmetic on the sizes where these are free."""
    g, p, layer = at.graph, at.param, at.layer
    size: list[Dim] = at.dims()[2:]
    image: list[Dim | float] = list(layer._image or at.dims(1)[2:])
    if not any(isinstance(n, str) for n in (*size, *image)):
        return g.constant(at.top_values()[0])
    sides = layer._sides.astype(float)

    def centres(axis: int) -> str:
        """(n, 1, 1) or (1, n, 1, 1) float64, computed in float32."""
        if layer._step is not None:
            step = g.constant(layer._step[axis])
        else:
            length = image[axis]
            total = g.cast(length, np.float32) if isinstance(length, str) else g.constant(length)
            step = g.op('Div', total, g.cast(g.as_value([size[axis]]), np.float32))
        place = g.op('Mul', g.plus(g.cast(_numbers_to(g, size[axis]), np.float32), float(p.offset)), step)
        return g.reshape(g.cast(place, np.float64), [-1, 1, 1, 1] if axis == 0 else [1, -1, 1, 1])

    y, x = centres(0), centres(1)
    nothing = g.constant(0.0, np.float64)
    both = [g.op('Add', x, g.op('Mul', y, nothing)), g.op('Add', y, g.op('Mul', x, nothing))]
    centre = g.op('Concat', *both, axis=3)  # (H, W, 1, 2)
    half = g.constant(sides / 2, np.float64)
    boxes = g.op('Concat', g.op('Sub', centre, half), g.op('Add', centre, half), axis=3)  # (H, W, boxes, 4)
    ends = [g.cast(n, np.float64) if isinstance(n, str) else g.constant([n], np.float64) for n in image[::-1]]
    boxes = g.op('Div', boxes, g.op('Concat', *ends, *ends, axis=0))
    if p.clip:
        boxes = g.op('Clip', boxes, nothing, g.constant(1.0, np.float64))
    boxes = g.cast(boxes, np.float32)
    variance = np.broadcast_to(np.array(list(p.variance) or [0.1], np.float32), 4)
    variances = g.op('Expand', g.constant(variance), g.op('Shape', boxes))
    return g.op('Concat', *(g.reshape(part, [1, 1, -1]) for part in (boxes, variances)), axis=1)


@exports('Proposal')
def proposal(at: Place) -> list[str]:
    """Boxes in float64 as the layer's, TopK, and NonMaxSuppression; boxes that overlap by the threshold to the last
    digit may fall otherwise."""
    g, p = at.graph, at.param
    anchors = at.layer._anchors
    count = len(anchors)
    _, _, height, width = at.dims()
    scores = g.op('Slice', at.x, g.ints(count), g.ints(2 * count), g.ints(1))
    scores = g.reshape(g.op('Transpose', scores, perm=[0, 2, 3, 1]), [-1])
    codes = g.reshape(at.bottoms[1], [count, 4, height, width])
    codes = g.reshape(g.op('Transpose', codes, perm=[2, 3, 0, 1]), [-1, 4])
    row, column = (
        g.reshape(g.op('Mul', _numbers_to(g, n), g.ints(p.feat_stride)), shape)
        for n, shape in ((height, [-1, 1, 1, 1]), (width, [1, -1, 1, 1]))
    )
    nothing = g.ints(0)
    x, y = g.op('Add', column, g.op('Mul', row, nothing)), g.op('Add', row, g.op('Mul', column, nothing))
    shifts = g.cast(g.op('Concat', x, y, x, y, axis=3), np.float64)
    boxes = g.reshape(g.op('Add', shifts, g.constant(anchors, np.float64)), [-1, 4])

    one, two = g.constant(1.0, np.float64), g.constant(2.0, np.float64)
    low, high = g.ops('Split', 2, boxes, axis=1, num_outputs=2)
    ways, growth = g.ops('Split', 2, codes, axis=1, num_outputs=2)
    size = g.op('Add', g.op('Sub', high, low), one)
    way = g.op('Mul', g.cast(ways, np.float64), size)
    centre = g.op('Add', g.op('Add', low, g.op('Div', size, two)), way)
    half = g.op('Div', g.op('Mul', g.cast(g.op('Exp', growth), np.float64), size), two)
    boxes = g.op('Concat', g.op('Sub', centre, half), g.op('Add', centre, half), axis=1)
    info = g.op('Reshape', at.bottoms[2], g.ints([-1]))
    info = g.op('Slice', info, g.ints(0), g.ints(3), g.ints(0))
    image_height, image_width, scale = g.ops('Split', 3, info, axis=0, num_outputs=3)
    ends = g.op('Concat', image_width, image_height, image_width, image_height, axis=0)
    ends = g.cast(g.op('Sub', ends, g.constant(1)), np.float64)
    boxes = g.op('Min', g.op('Max', boxes, g.constant(0.0, np.float64)), ends)

    low, high = g.ops('Split', 2, boxes, axis=1, num_outputs=2)
    shortest = g.op('ReduceMin', g.op('Add', g.op('Sub', high, low), one), g.ints(1), keepdims=0)
    least = g.cast(g.op('Mul', scale, g.constant(p.min_size)), np.float64)
    rows = g.op('Squeeze', g.op('NonZero', g.op('GreaterOrEqual', shortest, least)), g.ints(0))
    boxes, scores = g.op('Gather', boxes, rows), g.op('Gather', scores, rows)
    number = g.op('Shape', scores)
    if p.pre_nms_topn:
        number = g.op('Min', number, g.ints(p.pre_nms_topn))
    scores, order = g.ops('TopK', 2, scores, number, axis=0)
    boxes = g.op('Gather', boxes, order)
    # NonMaxSuppression measures boxes from corner to corner; these have their last pixel inside
    corners = g.op('Add', boxes, g.constant([0, 0, 1, 1], np.float64))
    corners = g.op('Unsqueeze', g.cast(corners, np.float32), g.ints(0))
    rank = g.op('Neg', g.cast(_numbers_to(g, number), np.float32))  # that equal scores keep their order
    most = g.ints(p.post_nms_topn or 2**31 - 1)
    kept = g.op('NonMaxSuppression', corners, g.op('Unsqueeze', rank, g.ints([0, 1])), most, g.constant([p.nms_thresh]))
    kept = g.reshape(g.op('Slice', kept, g.ints(2), g.ints(3), g.ints(1)), [-1])
    rois = g.cast(g.op('Gather', boxes, kept), np.float32)
    rois = g.op('Pad', rois, g.ints([0, 1, 0, 0]))
    return [rois, g.op('Unsqueeze', g.op('Gather', scores, kept), g.ints(1))][: at.n_tops]


@exports('DetectionOutput', limits='eta 1 only')
def detection_output(at: Place) -> str:
    """TopK of each class, NonMaxSuppression, and the best of each image; classes count as images while suppressed."""
    g, p, nms = at.graph, at.param, at.param.nms_param
    if nms.eta < 1:
        raise NoEquivalentError('eta below 1: NonMaxSuppression has one threshold')
    objects = [c for c in range(p.num_classes) if c != p.background_label_id]
    num, count = at.dims()[0], g.calculate('Div', at.dims(2)[2], 4)
    boxes = _decoded(at, num, count)
    if p.share_location:
        boxes = g.op('Expand', boxes, g.as_value([num, len(objects), count, 4]))
    else:
        boxes = g.op('Gather', boxes, g.ints(objects), axis=1)
    scores = g.op('Transpose', g.reshape(at.bottoms[1], [num, count, p.num_classes]), perm=[0, 2, 1])
    scores = g.op('Gather', scores, g.ints(objects), axis=1)
    boxes, scores = g.reshape(boxes, [-1, count, 4]), g.reshape(scores, [-1, count])

    most = g.as_value([count])
    if nms.HasField('top_k') and nms.top_k >= 0:
        most = g.op('Min', most, g.ints(nms.top_k))
    scores, order = g.ops('TopK', 2, scores, most, axis=1)
    rows = g.op('Expand', g.op('Unsqueeze', order, g.ints(2)), g.op('Concat', g.op('Shape', order), g.ints(4), axis=0))
    boxes = g.op('GatherElements', boxes, rows, axis=1)
    limits = [g.constant([p.confidence_threshold])] if p.HasField('confidence_threshold') else []
    kept = g.op(
        'NonMaxSuppression', boxes, g.op('Unsqueeze', scores, g.ints(1)), most,
        g.constant([min(nms.nms_threshold, 1)]), *limits,
    )  # fmt: skip
    place = g.op('Gather', kept, g.constant([0, 2], np.int64), axis=1)
    image = g.op('Div', g.op('Gather', kept, g.constant(0, np.int64), axis=1), g.ints(len(objects)))
    number = g.op('Mod', g.op('Gather', kept, g.constant(0, np.int64), axis=1), g.ints(len(objects)))
    score = g.op('GatherND', scores, place)
    as_columns = (g.op('Unsqueeze', v, g.ints(1)) for v in (
        g.cast(image, np.float32), g.op('Gather', g.constant(objects), number), score
    ))  # fmt: skip
    found = g.op('Concat', *as_columns, g.op('GatherND', boxes, place), axis=1)
    if p.keep_top_k >= 0:
        found = _best_of_each_image(g, found, image, score, num, p.keep_top_k)

    # Without any detection a row of -1 an image
    images = g.op('Unsqueeze', g.cast(_numbers_to(g, num), np.float32), g.ints(1))
    none = g.op('Pad', images, g.ints([0, 0, 0, 6]), g.constant(-1))
    nothing = g.cast(g.op('Equal', g.dim(found, 0), g.ints(0)), np.int64)
    none = g.op('Slice', none, g.ints(0), g.op('Mul', nothing, g.as_value([num])), g.ints(0))
    return g.op('Unsqueeze', g.op('Concat', found, none, axis=0), g.ints([0, 1]))


def _decoded(at: Place, num: Dim, count: Dim) -> str:
    """The boxes (N, 1 or classes, P, 4): `caffe.kernels.boxes.decode` in ONNX's operations."""
    g, p = at.graph, at.param
    codes = g.reshape(at.x, [num, count, -1, 4] if p.share_location else [num, count, p.num_classes, 4])
    codes = g.op('Transpose', codes, perm=[0, 2, 1, 3])
    priors, variances = (
        g.reshape(part, [-1, 4]) for part in g.ops('Split', 2, g.reshape(at.bottoms[2], [2, -1]), axis=0, num_outputs=2)
    )
    if not p.variance_encoded_in_target:
        codes = g.op('Mul', codes, variances)
    low, high = g.ops('Split', 2, priors, axis=1, num_outputs=2)
    size = g.op('Sub', high, low)
    if at.layer._code == 'CENTER_SIZE':
        two = g.constant(2)
        ways, growth = g.ops('Split', 2, codes, axis=3, num_outputs=2)
        centre = g.op('Add', g.op('Div', g.op('Add', low, high), two), g.op('Mul', ways, size))
        half = g.op('Div', g.op('Mul', g.op('Exp', growth), size), two)
        return g.op('Concat', g.op('Sub', centre, half), g.op('Add', centre, half), axis=3)
    if at.layer._code == 'CORNER_SIZE':
        codes = g.op('Mul', codes, g.op('Concat', size, size, axis=1))
    return g.op('Add', priors, codes)


def _best_of_each_image(g: Graph, found: str, image: str, score: str, num: Dim, most: int) -> str:
    """The rows of the `most` highest scores of each image, in the order that they have."""
    _, order = g.ops('TopK', 2, score, g.op('Shape', score), axis=0)
    owners = g.op('Gather', image, order)
    each = g.op('OneHot', owners, g.op('Squeeze', g.as_value([num])), g.constant([0, 1], np.int64), axis=1)
    rank = g.op('CumSum', each, g.constant(0, np.int64))
    rank = g.op('GatherElements', rank, g.op('Unsqueeze', owners, g.ints(1)), axis=1)
    good = g.op('LessOrEqual', g.reshape(rank, [-1]), g.ints(most))
    rows = g.op('Gather', order, g.op('Squeeze', g.op('NonZero', good), g.ints(0)))
    rows, _ = g.ops('TopK', 2, rows, g.op('Shape', rows), axis=0, largest=0)
    return g.op('Gather', found, rows)
