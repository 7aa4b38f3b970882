"""ROIAlign and PSROIPooling (caffe.layers.roi_align, .rfcn): means of RoIs' bins."""

from __future__ import annotations

import numpy as np

from caffe.onnx_export.graph import Dim, Graph
from caffe.onnx_export.recipes import Place, exports


def _rois(at: Place) -> tuple[str, list[str]]:
    """The image of each RoI, (R,) int64, the nearest that is there; x1, y1, x2, y2, (R, 1) each."""
    g = at.graph
    rois = g.op('Reshape', at.bottoms[1], g.ints([-1, 5]))
    image, *corners = g.ops('Split', 5, rois, axis=1, num_outputs=5)
    last = g.op('Sub', g.as_value(at.dims()[:1]), g.ints(1))
    image = g.op('Min', g.op('Max', g.cast(image, np.int64), g.ints(0)), last)
    return g.reshape(image, [-1]), corners


@exports('ROIAlign')
def roi_align(at: Place) -> str:
    """RoiAlign, without the offset of half a pixel."""
    g, p = at.graph, at.param
    image, corners = _rois(at)
    return g.op(
        'RoiAlign', at.x, g.op('Concat', *corners, axis=1), image,
        mode='avg', output_height=p.pooled_h, output_width=p.pooled_w, sampling_ratio=max(p.sampling_ratio, 0),
        spatial_scale=p.spatial_scale, coordinate_transformation_mode='output_half_pixel',
    )  # fmt: skip


def _edges(g: Graph, first: str, last: str, scale: float, group: int, pixels: Dim) -> tuple[str, str]:
    """`caffe.kernels.position_sensitive.bin_edges` along one axis: pixels low to before high, (R, G) int64."""

    def rounded(corner: str) -> str:
        half_up = g.op('Floor', g.op('Add', g.op('Abs', g.cast(corner, np.float64)), g.constant(0.5, np.float64)))
        return g.op('Mul', g.op('Sign', corner), g.cast(half_up, np.float32))

    start = g.op('Mul', rounded(first), g.constant(scale))
    end = g.op('Mul', g.plus(rounded(last), 1), g.constant(scale))
    length = g.op('Div', g.op('Max', g.op('Sub', end, start), g.constant(0.1)), g.constant(group))
    limit = g.as_value([pixels])

    def edge(numbers: range, kind: str) -> str:
        place = g.op('Add', g.op('Mul', g.constant(list(numbers)), length), start)
        return g.op('Min', g.op('Max', g.cast(g.op(kind, place), np.int64), g.ints(0)), limit)

    return edge(range(group), 'Floor'), edge(range(1, group + 1), 'Ceil')


@exports('PSROIPooling')
def ps_roi_pooling(at: Place) -> str:
    """Sums of all pixels above and to the left (CumSum, in float64), four of which give a bin's (Gather)."""
    g, p = at.graph, at.param
    height, width = at.dims()[2:]
    outputs, group = p.output_dim, p.group_size
    image, (x1, y1, x2, y2) = _rois(at)
    top, bottom = (g.op('Unsqueeze', e, g.ints([1, 3])) for e in _edges(g, y1, y2, p.spatial_scale, group, height))
    left, right = (g.op('Unsqueeze', e, g.ints([1, 2])) for e in _edges(g, x1, x2, p.spatial_scale, group, width))
    sums = g.cast(at.x, np.float64)
    for axis in (2, 3):
        sums = g.op('CumSum', sums, g.constant(axis, np.int64))
    sums = g.op('Pad', sums, g.ints([0, 0, 1, 1, 0, 0, 0, 0]))
    sums = g.op('Reshape', sums, g.ints([-1]))
    rows, columns = (g.op('Add', g.as_value([n]), g.ints(1)) for n in (height, width))
    # The map of output d, bin (row, column): (d * G + row) * G + column
    maps = g.constant(np.arange(outputs * group * group).reshape(1, outputs, group, group), np.int64)
    first = g.op('Mul', g.op('Reshape', image, g.ints([-1, 1, 1, 1])), g.ints(outputs * group * group))
    base = g.op('Mul', g.op('Add', maps, first), g.op('Mul', rows, columns))

    def corner(down: str, across: str) -> str:
        place = g.op('Add', g.op('Mul', down, columns), across)
        return g.op('Gather', sums, g.op('Add', base, place), axis=0)

    total = g.op('Sub', corner(bottom, right), corner(top, right))
    total = g.op('Add', g.op('Sub', total, corner(bottom, left)), corner(top, left))
    sides = g.op('Sub', bottom, top), g.op('Sub', right, left)
    area = g.op('Mul', *(g.op('Max', side, g.ints(0)) for side in sides))
    some = g.op('Max', area, g.ints(1))
    mean = g.cast(g.op('Div', total, g.cast(some, np.float64)), np.float32)
    return g.op('Where', g.op('Greater', area, g.ints(0)), mean, g.constant(0))
