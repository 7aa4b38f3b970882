"""Builds small data sets in VOC layout for the tests of this folder."""

from pathlib import Path

import cv2
import numpy as np


def annotation(objects=(), size=(60, 40), extra='') -> str:
    """A VOC annotation; each object is (name, xmin, ymin, xmax, ymax[, difficult]), 1-based."""
    lines = ['<annotation>', extra]
    if size:
        lines.append(f'<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>')
    for name, x1, y1, x2, y2, *difficult in objects:
        lines.append(
            f'<object><name>{name}</name><difficult>{int(any(difficult))}</difficult><bndbox>'
            f'<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>'
        )
    return '\n'.join([*lines, '</annotation>'])


class Folder:
    """Builds a folder in VOC layout."""

    def __init__(self, root: Path):
        self.root = root
        for sub in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
            (root / sub).mkdir(parents=True)

    def add(self, image_id: str, xml: str | None = None, extension: str = '.jpg', size=(60, 40)) -> None:
        image = np.random.default_rng(len(image_id)).integers(0, 255, (size[1], size[0], 3), np.uint8)
        cv2.imwrite(str(self.root / 'JPEGImages' / (image_id + extension)), cv2.GaussianBlur(image, (0, 0), 3))
        (self.root / 'Annotations' / f'{image_id}.xml').write_text(annotation() if xml is None else xml)

    def split(self, name: str, *ids: str) -> None:
        (self.root / 'ImageSets' / 'Main' / f'{name}.txt').write_text(''.join(i + '\n' for i in ids))
