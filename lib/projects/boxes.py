"""Boxes as labelling tools write them, held against their image: put right, or refused with their place."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

from detection_data.labels import STRAY, flag_value
from projects.photographs import Box, LabelError


def flag(value: object, where: str, name: str) -> bool:
    """What tools mean by a flag such as <difficult> or iscrowd. Raises LabelError for what means nothing."""
    meant = flag_value(value)
    if meant is None:
        raise LabelError(f'{where}: {name} is {value!r}; expected 0 or 1, yes or no, True or False')
    return meant


def checked(box: Box, width: int, height: int, said: Counter) -> Box:
    """The box with its corners in order, cut to an image of that size; what was put right is counted in `said`.

    Raises LabelError for coordinates that are not numbers, a box of no size, and one that reaches more than a pixel
    past the border: that is a box of another image or in other units.
    """
    edges = (box.left, box.top, box.right, box.bottom)
    shown = '({:g}, {:g}, {:g}, {:g})'.format(*edges)
    if not all(map(math.isfinite, edges)):
        raise LabelError(f'{box.where} ({box.name}): box {shown} has a coordinate that is no number')
    left, right = sorted((box.left, box.right))
    top, bottom = sorted((box.top, box.bottom))
    if (left, top) != (box.left, box.top):
        said['boxes with swapped corners, put in order'] += 1
    if right - left <= 0 or bottom - top <= 0:
        raise LabelError(f'{box.where} ({box.name}): box {shown} has no area: correct it, or take the object out')
    if right <= 1 and bottom <= 1 and max(width, height) > 2:
        raise LabelError(
            f'{box.where} ({box.name}): box {shown} lies within one pixel: its numbers are parts of the image, '
            f'expected pixels of {width}x{height}'
        )
    if left < -STRAY or top < -STRAY or right > width + STRAY or bottom > height + STRAY:
        raise LabelError(
            f'{box.where} ({box.name}): box {shown} (left, top, right, bottom) lies outside its image, '
            f'{width}x{height}: correct it, or take the object out'
        )
    cut = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if cut != (left, top, right, bottom):
        said['boxes that reached past the border by up to a pixel, cut to it'] += 1
    if cut[2] - cut[0] <= 0 or cut[3] - cut[1] <= 0:
        raise LabelError(f'{box.where} ({box.name}): box {shown} has no area inside its image, {width}x{height}')
    return dataclasses.replace(box, left=cut[0], top=cut[1], right=cut[2], bottom=cut[3])
