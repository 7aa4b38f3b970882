"""A page to look at what was mined: one HTML file that holds its images and data, and needs no network."""

import base64
import json
import os
from collections.abc import Sequence

import cv2
import jinja2
import numpy as np

import whole_file
from detection_data.palette import class_colour, hexadecimal
from inspection.draw import loss_palette, scale_end, shown_at_once
from inspection.hard_rois import FATES, MINED, MiniBatch


def write_report(path: str, batches: Sequence[MiniBatch], classes: Sequence[str], settings: dict) -> None:
    """Write the page to `path`, whole or not at all.

    `classes` are the names, background first; `settings` {name: value} are shown at its head.
    """
    names = [str(name).strip('_') for name in classes]
    data = {
        'classes': names,
        'colours': [hexadecimal(class_colour(c)) for c in range(len(names))],
        'fates': FATES,
        'palette': [hexadecimal((r, g, b)) for b, g, r in loss_palette(64)],
        'images': [_image(batch, i, number) for number, batch in enumerate(batches) for i in range(len(batch.images))],
    }
    # `</script>` in a name must not end the script that holds the data
    text = json.dumps(data, separators=(',', ':')).replace('<', '\\u003c')
    environment = jinja2.Environment(loader=jinja2.PackageLoader('inspection', ''), autoescape=True)
    confusion = confusion_of_mined(batches, len(names))
    page = environment.get_template('report.html').render(
        data=text,
        settings=settings,
        classes=names,
        confusion=confusion.tolist(),
        most=int(confusion.max(initial=0)),
        images=len(data['images']),
    )
    whole_file.write_text(path, page)


def confusion_of_mined(batches: Sequence[MiniBatch], num_classes: int) -> np.ndarray:
    """(K, K) int: how many mined RoIs of each label (rows) were taken for which class (columns)."""
    counts = np.zeros((num_classes, num_classes), dtype=int)
    for batch in batches:
        np.add.at(counts, (batch.labels[batch.kept], batch.predicted[batch.kept]), 1)
    return counts


def _image(batch: MiniBatch, i: int, number: int) -> dict:
    """One image and its RoIs, hardest first, as the page's script reads them."""
    image = batch.images[i]
    done, jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise ValueError(f'{batch.names[i]}: cannot be encoded as a JPEG')
    rows = batch.rows(i)
    rows = rows[np.argsort(-batch.loss[rows], kind='stable')]
    place = np.full(len(batch.rois) + 1, -1)
    place[rows] = np.arange(len(rows))
    rank = np.full(len(batch.rois), -1)
    rank[batch.kept] = np.arange(len(batch.kept))
    columns = {
        'box': np.round(batch.rois[rows, 1:].astype(float), 1),
        'label': batch.labels[rows],
        'predicted': batch.predicted[rows],
        'iou': np.round(batch.iou[rows], 3),
        'cls': np.round(batch.cls_loss[rows], 4),
        'bbox': np.round(batch.bbox_loss[rows], 4),
        'fate': batch.fate[rows],
        'rank': rank[rows],
        'by': place[batch.by[rows]],
    }
    if batch.score is not None:  # -1: an object itself, which was not proposed
        columns['score'] = np.round(np.nan_to_num(batch.score[rows].astype(float), nan=-1), 3)
    return {
        'name': _short_path(batch.names[i]),
        'batch': number,
        'width': image.shape[1],
        'height': image.shape[0],
        'top': scale_end(batch.loss[rows]),
        'first': shown_at_once(image.shape[1], image.shape[0]),
        'objects': np.round(batch.objects[i], 1).tolist() if batch.objects else [],
        'mined': int((batch.fate[rows] == FATES.index(MINED)).sum()),
        'src': 'data:image/jpeg;base64,' + base64.b64encode(jpeg.tobytes()).decode(),
        **{name: column.tolist() for name, column in columns.items()},
    }


def _short_path(name: str) -> str:
    """As seen from the working folder, where it lies below that: pages are passed on."""
    return name.removeprefix(os.path.join(os.getcwd(), ''))
