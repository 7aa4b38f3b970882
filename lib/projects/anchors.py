"""Anchors fitted to the boxes of a data set, and a net's prototxt made for them, as text: comments and layout stay."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np

from projects.photographs import Photograph
from projects.set_classes import layer_blocks

BASE = 16  # pixels: the side of an anchor of scale 1
_ANCHORS = re.compile(r'\b\d+ anchors\b')


class SetAnchorsError(ValueError):
    """A prototxt without the layers of an RPN."""


def fitted_anchors(photographs: Sequence[Photograph], scale: int) -> tuple[list[float], list[float]]:
    """(scales, ratios) of anchors for the boxes of `photographs`, whose shorter sides are brought to `scale` pixels.

    Scales, three to five, run from the smaller to the larger boxes (of which a twentieth may be beyond, at either end)
    in even steps of about a factor of two, as py-faster-rcnn's do. The three ratios of height to width are those of the
    boxes in thirds, a flat, a middle and a high one, at least a factor of 1.3 apart.
    """
    boxes = [(b.right - b.left, b.bottom - b.top, scale / min(p.width, p.height)) for p in photographs for b in p.boxes]
    width, height, enlarged = np.maximum(np.array(boxes, dtype=np.float64), 1e-3).T
    low, middle, high = np.quantile(np.log2(np.sqrt(width * height) * enlarged / BASE), (0.05, 0.5, 0.95))
    # boxes that are all of one size still get three, of which the middle one is theirs
    low, high = min(low, middle - 0.5), max(high, middle + 0.5)
    count = int(np.clip(np.ceil(high - low) + 1, 3, 5))
    flat, even, tall = np.quantile(np.log2(height / width), (1 / 6, 1 / 2, 5 / 6))
    step = np.log2(1.3)
    ratios = min(flat, even - step), even, max(tall, even + step)
    return _rounded(np.linspace(low, high, count)), _rounded(ratios)


def _rounded(exponents) -> list[float]:
    return [max(round(float(2**e), 2), 0.05) for e in exponents]


def smallest_side(photographs: Sequence[Photograph]) -> int:
    """TEST.RPN_MIN_SIZE in pixels of the photographs: half the shorter side of small boxes, 16 at most."""
    sides = [min(b.right - b.left, b.bottom - b.top) for p in photographs for b in p.boxes]
    return int(np.clip(np.quantile(sides, 0.05) / 2, 1, 16))


def _quoted(value: str, match: re.Match) -> str:
    return f'{match[1]}"{value}"'


def set_anchors(text: str, scales: Sequence[float], ratios: Sequence[float], path: str = 'the prototxt') -> str:
    """The prototxt of a net with an RPN, for anchors of these `scales` and `ratios`.

    Changed are the param_str of AnchorTargetLayer and ProposalLayer, whose feat_stride stays, and what follows from the
    number of anchors A: num_output of rpn_cls_score (2A) and rpn_bbox_pred (4A), the channels of rpn_cls_prob_reshape
    (2A). Raises SetAnchorsError, with `path`, if one of them is missing.
    """
    count = len(scales) * len(ratios)
    pieces, done, found = [], 0, set()
    for start, end in layer_blocks(text):
        block = text[start:end]
        named = re.search(r'\bname\s*:\s*["\']([^"\']*)["\']', block)
        name = named[1] if named else ''
        stride = re.search(r'feat_stride\W+(\d+)', block)
        if stride:
            given = f"{{'feat_stride': {stride[1]}, 'scales': {list(scales)}, 'ratios': {list(ratios)}}}"
            block = re.sub(r'(\bparam_str\s*:\s*)"[^"]*"', functools.partial(_quoted, given), block)
            found.add('feat_stride')
        each = {'rpn_cls_score': 2, 'rpn_bbox_pred': 4}.get(name)
        if each:
            block, changed = re.subn(r'(\bnum_output\s*:\s*)\d+', rf'\g<1>{each * count}', block, count=1)
            found |= {name} if changed else set()
        if name == 'rpn_cls_prob_reshape':
            block, changed = re.subn(r'(\bdim:\s*0\s+dim:\s*)\d+', rf'\g<1>{2 * count}', block, count=1)
            found |= {name} if changed else set()
        if block != text[start:end]:
            block = _ANCHORS.sub(f'{count} anchors', block)
        pieces += [text[done:start], block]
        done = end
    missing = {'feat_stride', 'rpn_cls_score', 'rpn_bbox_pred', 'rpn_cls_prob_reshape'} - found
    if missing:
        raise SetAnchorsError(f'{path}: no layer with {", ".join(sorted(missing))}: not a net with an RPN?')
    return ''.join([*pieces, text[done:]])
