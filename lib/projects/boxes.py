"""The boxes of an image as its labels have them, judged as those of every data set are, in the pixels as stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from detection_data.labels import KINDS, RawObject, Style, edges_used, flag_value, judge, refuse
from projects.photographs import Box, Frame

IGNORED_BY = ('difficult', 'iscrowd')  # flags of objects that are neither examples nor mistakes

# Of boxes given by their edges, as LabelMe's and those of tables are
EDGES = Style(
    fields='(left, top, right, bottom)',
    edges=lambda box: (box[0], box[1], box[2], box[3]),
    least=0,
    counts='',
    remedy='correct it, or take the object out',
    corners=True,
)


def boxes_of(objects: Sequence[RawObject], style: Style, frame: Frame, said: Counter) -> tuple[Box, ...]:
    """The boxes of an image; what is put right or noted is counted in `said`.

    Raises AnnotationError for what `labels.judge` refuses.
    """
    found = judge(objects, None, frame.labelled, style)
    refuse(found)
    said.update(KINDS[kind][0] for kind, _ in found)
    edges = edges_used(np.array([each.numbers for each in objects]), frame.labelled, style)
    return tuple(
        Box(each.name, *frame.as_stored(box), any(flag_value(each.flags.get(flag)) for flag in IGNORED_BY), each.where)
        for each, box in zip(objects, edges.tolist(), strict=True)
    )
