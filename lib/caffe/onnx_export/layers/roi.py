"""ROIPooling (caffe.layers.roi).

ONNX's MaxRoiPool is another function: its bins are not those of Caffe where an RoI ends beyond the map or before it
starts, and runtimes round corners in their own ways. So bins are computed here, in Caffe's float32 arithmetic, and a
Scan takes the maximum of each: one RoI at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from caffe.onnx_export.graph import Dim, Graph, subgraph
from caffe.onnx_export.recipes import Place, exports


class _Bins(NamedTuple):
    """low, high (R, P) int64: the bins along one axis, from pixel low to before high."""

    low: str
    high: str


def _bins_along(g: Graph, first: str, last: str, scale: float, pooled: int, size: Dim) -> _Bins:
    """`caffe.layers.roi.bins_along` in ONNX's operations; first, last: (R, 1)."""

    def rounded(corner: str) -> str:
        scaled = g.cast(g.op('Mul', corner, g.constant(scale)), np.float64)
        half_up = g.op('Floor', g.op('Add', g.op('Abs', scaled), g.constant(0.5, np.float64)))
        return g.cast(g.op('Mul', g.op('Sign', scaled), half_up), np.int64)

    start, end = rounded(first), rounded(last)
    one = g.ints(1)
    length = g.op('Max', g.op('Add', g.op('Sub', end, start), one), one)
    bin_size = g.op('Div', g.cast(length, np.float32), g.constant(pooled))
    limit = g.as_value([size])

    def edge(numbers: range, kind: str) -> str:
        at = g.op(kind, g.op('Mul', bin_size, g.constant(list(numbers))))
        pixel = g.op('Add', g.cast(at, np.int64), start)
        return g.op('Min', g.op('Max', pixel, g.ints(0)), limit)

    return _Bins(edge(range(pooled), 'Floor'), edge(range(1, pooled + 1), 'Ceil'))


def _body(pixels: str, width: str, prefix: str) -> onnx.GraphProto:
    """One RoI: the maxima of its bins. A bin longer than others repeats none of its pixels, a shorter one its last."""
    nodes: list[onnx.NodeProto] = []

    def op(kind: str, *inputs: str, **attributes) -> str:
        name = f'{prefix}/body/{len(nodes)}'
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def number(value) -> str:
        return op('Constant', value=onnx.numpy_helper.from_array(np.asarray(value, np.int64)))

    zero, one, first_axis = number(0), number(1), number([0])

    def places(low: str, high: str) -> str:
        """(P, L): the pixels of each bin, L being the longest bin's length; its last again where a bin is shorter."""
        length = op('ReduceMax', op('Sub', high, low), keepdims=0)
        steps = op('Range', zero, op('Max', length, one), one)
        pixel = op('Add', op('Unsqueeze', low, number([1])), steps)
        last = op('Max', op('Sub', high, one), zero)
        return op('Min', pixel, op('Unsqueeze', last, number([1])))

    top, bottom, left, right, base = (f'{prefix}/body/{name}' for name in ('top', 'bottom', 'left', 'right', 'base'))
    # down: of the columns that the RoI has, the maxima of the rows of each bin
    first = op('ReduceMin', left, keepdims=0)
    end = op('Max', op('ReduceMax', right, keepdims=0), op('Add', first, one))
    first = op('Min', first, op('Sub', width, one))
    end = op('Min', end, width)
    columns = op('Range', first, end, one)
    row = op('Mul', op('Add', places(top, bottom), base), width)
    flat = op('Add', op('Unsqueeze', row, number([2])), columns)  # (P, L, columns)
    down = op('ReduceMax', op('Gather', pixels, flat, axis=0), number([1]), keepdims=0)  # (P, columns, C)
    # across
    across = op('Sub', places(left, right), first)
    pooled = op('ReduceMax', op('Gather', down, across, axis=1), number([2]), keepdims=0)  # (P, Q, C)
    has_rows = op('Unsqueeze', op('Greater', bottom, top), number([1]))
    full = op('And', has_rows, op('Unsqueeze', op('Greater', right, left), first_axis))
    nothing = op('Constant', value_float=0.0)
    op('Where', op('Unsqueeze', full, number([2])), pooled, nothing)
    inputs = [(top, np.int64, [None]), (bottom, np.int64, [None]), (left, np.int64, [None])]
    inputs += [(right, np.int64, [None]), (base, np.int64, [])]
    return subgraph(nodes, 'one_roi', inputs, [(nodes[-1].output[0], np.float32, [None, None, None])])


@exports('ROIPooling')
def roi_pooling(at: Place) -> str:
    """Bins by arithmetic, maxima by a Scan over RoIs of Gather and ReduceMax; equal to the last digit."""
    g, p = at.graph, at.param
    num, channels, height, width = at.dims()
    rois = g.op('Reshape', at.bottoms[1], g.ints([-1, 5]))
    count = g.dim(rois, 0)
    rois = g.op('Concat', rois, g.constant(np.zeros((1, 5))), axis=0)  # onnxruntime's Scan takes no empty sequence
    columns = g.ops('Split', 5, rois, axis=1, num_outputs=5)
    image, x1, y1, x2, y2 = columns
    down = _bins_along(g, y1, y2, p.spatial_scale, p.pooled_h, height)
    across = _bins_along(g, x1, x2, p.spatial_scale, p.pooled_w, width)
    last_image = g.op('Sub', g.as_value([num]), g.ints(1))
    image = g.op('Min', g.op('Max', g.cast(image, np.int64), g.ints(0)), last_image)
    base = g.reshape(g.op('Mul', image, g.as_value([height])), [-1])
    pixels = g.reshape(g.op('Transpose', at.x, perm=[0, 2, 3, 1]), [-1, channels])
    width = g.op('Squeeze', g.as_value([width]), g.ints(0))
    body = _body(pixels, width, g.fresh(g.prefix))
    pooled = g.op('Scan', *down, *across, base, body=body, num_scan_inputs=5)
    pooled = g.op('Slice', pooled, g.ints(0), count, g.ints(0))
    return g.op('Transpose', pooled, perm=[0, 3, 1, 2])
