"""Detections in the forms that other programs read: JSON Lines, CSV, COCO's results, PASCAL VOC's XML. Texts alone."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from fast_rcnn.detector import Detections

CSV_HEADER = ('image', 'frame', 'class', 'score', 'x1', 'y1', 'x2', 'y2')

# What XML 1.0 cannot hold, whatever the notation
_NO_XML = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')


def plain(found: Detections) -> list[dict]:
    """[{'class', 'score', 'box'}, ...]: scores to 4 places, boxes x1, y1, x2, y2 to a tenth of a pixel."""
    return [
        {'class': d['class'], 'score': round(d['score'], 4), 'box': [round(v, 1) for v in d['box']]}
        for d in found.as_dicts()
    ]


def json_line(found: Detections, image: str, frame: int | None = None, seconds: float | None = None) -> str:
    """A line of JSON of one image; of a video's frame with its number and its time."""
    of_video = {} if frame is None else {'frame': frame, 'seconds': round(seconds or 0.0, 3)}
    line = {'image': image, **of_video, 'width': found.width, 'height': found.height, 'detections': plain(found)}
    return json.dumps(line) + '\n'


def csv_lines(rows: Sequence[Sequence]) -> str:
    """Rows as CSV (RFC 4180), lines ended by a newline."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)
    return text.getvalue()


def csv_rows(found: Detections, image: str, frame: int | None = None) -> list[tuple]:
    """A row under CSV_HEADER for each detection; frame is empty for a photograph."""
    number = '' if frame is None else frame
    return [(image, number, d['class'], d['score'], *d['box']) for d in plain(found)]


def coco_results(found: Detections, image_id: int | str, category_ids: Mapping[str, int | str]) -> list[dict]:
    """Entries of COCO's result format: bbox is [x, y, width, height], with the last pixel counted in."""
    return [
        {
            'image_id': image_id,
            'category_id': category_ids[box.name],
            'bbox': [round(v, 3) for v in (box.x1, box.y1, box.x2 - box.x1 + 1, box.y2 - box.y1 + 1)],
            'score': round(box.score, 6),
        }
        for box in found
    ]


def voc_xml(found: Detections, filename: str, folder: str = '') -> str:
    """An annotation file of PASCAL VOC: whole pixels, counted from 1, both ends included, within the image."""
    lines = [
        '<annotation>',
        f'\t<folder>{_text(folder)}</folder>',
        f'\t<filename>{_text(filename)}</filename>',
        '\t<source>',
        '\t\t<database>Unknown</database>',
        '\t</source>',
        '\t<size>',
        f'\t\t<width>{found.width}</width>',
        f'\t\t<height>{found.height}</height>',
        '\t\t<depth>3</depth>',
        '\t</size>',
        '\t<segmented>0</segmented>',
    ]
    for box in found:
        ends = ((box.x1, found.width), (box.y1, found.height), (box.x2, found.width), (box.y2, found.height))
        corners = [min(max(round(value) + 1, 1), side) for value, side in ends]
        for low, side in ((0, found.width), (1, found.height)):
            if corners[low] == corners[low + 2]:  # no tool, nor our reader, takes a box of one pixel
                corners[low] = max(min(corners[low], side - 1), 1)
                corners[low + 2] = min(corners[low] + 1, side)
        on_edge = corners[0] == 1 or corners[1] == 1 or corners[2] == found.width or corners[3] == found.height
        lines += [
            '\t<object>',
            f'\t\t<name>{_text(box.name)}</name>',
            '\t\t<pose>Unspecified</pose>',
            f'\t\t<truncated>{int(on_edge)}</truncated>',
            '\t\t<difficult>0</difficult>',
            '\t\t<bndbox>',
            *(f'\t\t\t<{k}>{v}</{k}>' for k, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), corners, strict=True)),
            '\t\t</bndbox>',
            '\t</object>',
        ]
    return '\n'.join([*lines, '</annotation>', ''])


def _text(value: str) -> str:
    return escape(_NO_XML.sub('?', value))
