"""Pooling and SPP (caffe.layers.pooling).

ONNX's pooling rounds up as Caffe's does, but what a last window beyond the image gives differs from version to version
of the standard. So where there may be one, the image is padded to exactly what Caffe's windows cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe.kernels.pooling import Windows
from caffe.layer import Phase
from caffe.layers.pooling import method_of, read_windows
from caffe.onnx_export.graph import Dim, Graph
from caffe.onnx_export.recipes import NoEquivalentError, Place, exports

_LOWEST = float(np.finfo(np.float32).min)
_SMALLEST = float(np.finfo(np.float32).tiny)


def _refuse_sampling(at: Place) -> None:
    if method_of(at.param) == 'STOCHASTIC' and at.layer.phase == Phase.TRAIN:
        raise NoEquivalentError('stochastic pooling is random in TRAIN; make the net for TEST')


def _overhang(g: Graph, n: Dim, windows: Windows, axis: int) -> Dim:
    """How far the last window reaches beyond the axis, of length n; negative where pixels are left over."""
    k, s, p = windows.kernel[axis], windows.stride[axis], windows.pad[axis]
    if isinstance(n, int):
        size = tuple(n if i == axis else windows.kernel[i] for i in range(2))
        count = windows.number(size)[axis]
        return (count - 1) * s + k - n - p
    steps = g.calculate('Add', n, 2 * p - k + (s - 1 if windows.round_up else 0))
    last = g.calculate('Mul', g.calculate('Div', steps, s), s)  # where the last window begins, counted from the padding
    if any(windows.pad):  # at most n + p - 1
        last = g.calculate('Min', last, g.calculate('Mul', g.calculate('Div', g.calculate('Add', n, p - 1), s), s))
    return g.calculate('Sub', last, g.calculate('Sub', n, k - p))


def _padded(g: Graph, x: str, before: Sequence[Dim], after: Sequence[Dim], value: float) -> str:
    """The image padded, or cut where lengths are negative."""
    if (*before, *after) == (0, 0, 0, 0):
        return x
    return g.op('Pad', x, g.as_value([0, 0, *before, 0, 0, *after]), g.constant(value))


def _after(at: Place, windows: Windows) -> list[Dim]:
    return [_overhang(at.graph, n, windows, axis) for axis, n in enumerate(at.dims()[2:])]


def _pads_by_itself(windows: Windows, after: list[Dim]) -> bool:
    """Whether Caffe pads as much behind as `pads` may say."""
    return all(isinstance(a, int) and 0 <= a < k for a, k in zip(after, windows.kernel, strict=True))


def _never_drops(windows: Windows) -> bool:
    """Whether the last window begins within the image whatever its size: then all versions of ONNX agree with Caffe."""
    sides = zip(windows.kernel, windows.stride, windows.pad, strict=True)
    return all(p <= (k - s if windows.round_up else k - 1) for k, s, p in sides)


def _max(at: Place, windows: Windows) -> list[str]:
    g = at.graph
    options: dict[str, Any] = {'kernel_shape': list(windows.kernel), 'strides': list(windows.stride)}
    before, (height, width) = windows.pad, at.dims()[2:]
    if _never_drops(windows):
        options |= {'pads': [*windows.pad] * 2, 'ceil_mode': int(windows.round_up)}
        x, before = at.x, (0, 0)
        after: list[Dim] = [0, 0]
    else:
        after = _after(at, windows)
        if _pads_by_itself(windows, after):
            options['pads'] = [*windows.pad, *after]
            x, before, after = at.x, (0, 0), [0, 0]
        else:
            x = _padded(g, at.x, before, after, _LOWEST)
    if at.n_tops == 1:
        return [g.op('MaxPool', x, **options)]
    top, place = g.ops('MaxPool', 2, x, **options)
    if x == at.x:
        size = g.as_value([g.calculate('Mul', height, width)])
        return [top, g.cast(g.op('Mod', place, size), np.float32)]
    # places in the padded image, as those in the image; -1 where they are outside
    sides = zip((height, width), after, before, strict=True)
    h, w = (g.calculate('Add', g.calculate('Add', n, a), b) for n, a, b in sides)
    h, w, height, width = (g.as_value([d]) for d in (h, w, height, width))
    place = g.op('Mod', place, g.op('Mul', h, w))
    row = g.op('Sub', g.op('Div', place, w), g.ints(before[0]))
    column = g.op('Sub', g.op('Mod', place, w), g.ints(before[1]))
    inside = [g.op('Less', row, height), g.op('Less', column, width)]
    inside += [g.op('GreaterOrEqual', side, g.ints(0)) for side in (row, column)]
    while len(inside) > 1:
        inside.append(g.op('And', inside.pop(), inside.pop()))
    place = g.op('Where', inside[0], g.op('Add', g.op('Mul', row, width), column), g.ints(-1))
    return [top, g.cast(place, np.float32)]


def _average(at: Place, windows: Windows) -> str:
    """AveragePool of the padded image, zeros counted, divided by the part of each window that Caffe counts."""
    g = at.graph
    options = {'kernel_shape': list(windows.kernel), 'strides': list(windows.stride)}
    if windows.stride == (1, 1):
        return g.op('AveragePool', at.x, pads=[*windows.pad] * 2, count_include_pad=1, **options)
    after = _after(at, windows)
    known = [a for a in after if isinstance(a, int)]
    if _pads_by_itself(windows, after) and all(a <= p for a, p in zip(known, windows.pad, strict=True)):
        return g.op('AveragePool', at.x, pads=[*windows.pad, *after], count_include_pad=1, **options)
    mean = g.op('AveragePool', _padded(g, at.x, windows.pad, after, 0), **options)
    sizes = [g.calculate('Add', n, 2 * p) for n, p in zip(at.dims()[2:], windows.pad, strict=True)]
    counted = g.op('Expand', g.constant(1), g.as_value([1, 1, *sizes]))
    beyond = [g.calculate('Sub', a, p) for a, p in zip(after, windows.pad, strict=True)]
    return g.op('Div', mean, g.op('AveragePool', _padded(g, counted, (0, 0), beyond, 0), **options))


def _stochastic_mean(at: Place, windows: Windows) -> str:
    """Each pixel weighed by its share in the window's sum."""
    g, taps = at.graph, windows.kernel[0] * windows.kernel[1]
    x = _padded(g, at.x, (0, 0), _after(at, windows), 0)
    options = {'kernel_shape': list(windows.kernel), 'strides': list(windows.stride)}
    total = g.op('AveragePool', x, **options)
    squares = g.op('AveragePool', g.op('Mul', x, x), **options)
    return g.op('Div', squares, at.graph.plus(total, _SMALLEST / taps))


@exports('Pooling', limits='STOCHASTIC is random in TRAIN')
def pooling(at: Place) -> list[str]:
    """MaxPool or AveragePool of a padded image; over all of it where global_pooling."""
    _refuse_sampling(at)
    g, method = at.graph, method_of(at.param)
    if at.param.global_pooling and at.n_tops == 1 and method != 'STOCHASTIC':
        return [g.op('GlobalMaxPool' if method == 'MAX' else 'GlobalAveragePool', at.x)]
    if at.param.global_pooling and None in at.shapes[0]:
        raise NoEquivalentError(
            'global pooling with places, or STOCHASTIC, of images of any size; the sizes of its bottom must be fixed'
        )
    height, width = at.shapes[0][2:]  # None where free: looked at only by global_pooling
    windows = read_windows(at.param, (height or 0, width or 0))
    if method == 'MAX':
        return _max(at, windows)
    return [_average(at, windows) if method == 'AVE' else _stochastic_mean(at, windows)]


@exports('SPP', limits='STOCHASTIC is random in TRAIN')
def spp(at: Place) -> str:
    """Each level as a Reshape into bins of one size, reduced: its windows part the padded image."""
    _refuse_sampling(at)
    levels = [_level(at, 2**i) for i in range(at.param.pyramid_height)]
    if len(levels) == 1:
        return levels[0]
    flat = [at.graph.op('Flatten', level, axis=1) for level in levels]
    return at.graph.op('Concat', *flat, axis=1)


def _level(at: Place, bins: int) -> str:
    g, (num, channels, *size) = at.graph, at.dims()
    kernel = [g.calculate('Div', g.calculate('Add', n, bins - 1), bins) for n in size]
    covered = [g.calculate('Mul', k, bins) for k in kernel]
    missing = [g.calculate('Sub', c, n) for c, n in zip(covered, size, strict=True)]
    before = [g.calculate('Div', g.calculate('Add', m, 1), 2) for m in missing]
    after = [g.calculate('Sub', m, b) for m, b in zip(missing, before, strict=True)]
    lowest = _LOWEST if method_of(at.param) == 'MAX' else 0
    x = _padded(g, at.x, tuple(before), after, lowest)
    x = g.reshape(x, [num, channels, bins, kernel[0], bins, kernel[1]])
    axes = g.ints([3, 5])
    if method_of(at.param) == 'MAX':
        return g.op('ReduceMax', x, axes, keepdims=0)
    if method_of(at.param) == 'AVE':
        return g.op('ReduceMean', x, axes, keepdims=0)
    total = g.op('ReduceSum', x, axes, keepdims=0)
    return g.op('Div', g.op('ReduceSumSquare', x, axes, keepdims=0), at.graph.plus(total, _SMALLEST))
