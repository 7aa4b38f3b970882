"""Twelve photographs with their boxes, and these labels written as each tool writes them."""

import csv
import json
import random
from pathlib import Path

import cv2
import numpy as np

CLASSES = ('apple', 'pear')
WIDTH, HEIGHT = 160, 120


def objects() -> dict[str, list[tuple[str, int, int, int, int]]]:
    """Image stem -> (class, left, top, right, bottom): edges in pixels, counted from 0."""
    rng = random.Random(0)
    found = {}
    for k in range(12):
        found[f'photo {k:02d}'] = [
            (CLASSES[rng.randrange(2)], x, y, x + rng.randrange(20, 70), y + rng.randrange(20, 60))
            for x, y in [(rng.randrange(0, 90), rng.randrange(0, 60)) for _ in range(1 + k % 3)]
        ]
    return found


def write_images(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, (stem, boxes) in enumerate(objects().items()):
        image = np.full((HEIGHT, WIDTH, 3), 200 - k, np.uint8)
        for name, x1, y1, x2, y2 in boxes:
            cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), (0, 0, 200) if name == 'apple' else (0, 200, 0), -1)
        assert cv2.imwrite(str(folder / f'{stem}.jpg'), image)


def write_voc(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, boxes in objects().items():
        each = ''.join(
            f'<object><name>{n}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>'
            f'<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>'
            for n, x1, y1, x2, y2 in boxes
        )
        (folder / f'{stem}.xml').write_text(
            f'<annotation><filename>{stem}.jpg</filename><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>'
            f'{each}</annotation>'
        )


def write_coco(folder: Path, name: str = 'instances_default.json', text_ids: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    convert = str if text_ids else int
    size = {} if text_ids else {'width': WIDTH, 'height': HEIGHT}
    images, annotations = [], []
    for i, (stem, boxes) in enumerate(objects().items(), start=1):
        images.append({'id': convert(i), 'file_name': f'{stem}.jpg', **size})
        annotations += [
            {
                'id': 100 * i + k,
                'image_id': convert(i),
                'category_id': convert(CLASSES.index(n) + 1),
                'bbox': [x1, y1, x2 - x1, y2 - y1],
                'iscrowd': 0,
            }
            for k, (n, x1, y1, x2, y2) in enumerate(boxes)
        ]
    categories = [{'id': convert(k), 'name': n} for k, n in enumerate(CLASSES, start=1)]
    (folder / name).write_text(json.dumps({'images': images, 'annotations': annotations, 'categories': categories}))


def yolo_line(name, x1, y1, x2, y2, polygon=False) -> str:
    if polygon:
        points = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        return f'{CLASSES.index(name)} ' + ' '.join(f'{x / WIDTH:.6f} {y / HEIGHT:.6f}' for x, y in points)
    centre = (x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT
    return f'{CLASSES.index(name)} {centre[0]:.6f} {centre[1]:.6f} {(x2 - x1) / WIDTH:.6f} {(y2 - y1) / HEIGHT:.6f}'


def write_yolo(folder: Path, polygon: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, boxes in objects().items():
        (folder / f'{stem}.txt').write_text('\n'.join(yolo_line(*box, polygon=polygon) for box in boxes) + '\n')


def write_labelme(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, boxes in objects().items():
        shapes = [
            {'label': n, 'points': [[x2, y1], [x1, y2]], 'shape_type': 'rectangle', 'flags': {}}
            for n, x1, y1, x2, y2 in boxes
        ]
        (folder / f'{stem}.json').write_text(
            json.dumps(
                {'imagePath': f'..\\images\\{stem}.jpg', 'imageWidth': WIDTH, 'imageHeight': HEIGHT, 'shapes': shapes}
            )
        )


def write_csv(folder: Path, separator: str = ',') -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / '_annotations.csv', 'w', newline='') as file:
        out = csv.writer(file, delimiter=separator)
        out.writerow(['filename', 'width', 'height', 'class', 'xmin', 'ymin', 'xmax', 'ymax'])
        for stem, boxes in objects().items():
            for n, *edges in boxes:
                out.writerow([f'{stem}.jpg', WIDTH, HEIGHT, n, *edges])


def voc(root: Path) -> None:
    """labelImg: files beside a folder of images."""
    write_images(root / 'images')
    write_voc(root / 'labels')


def voc_kit(root: Path) -> None:
    """The development kit's folders, as CVAT writes them."""
    write_images(root / 'images' / 'JPEGImages')
    write_voc(root / 'images' / 'Annotations')


def coco(root: Path) -> None:
    write_images(root / 'images')
    write_coco(root / 'annotations')


def coco_with_text_ids(root: Path) -> None:
    """Ids as text, and no sizes, as some converters write them."""
    write_images(root / 'images')
    write_coco(root / 'images', '_annotations.coco.json', text_ids=True)


def yolo_ultralytics(root: Path) -> None:
    write_images(root / 'images')
    write_yolo(root / 'labels')
    (root / 'data.yaml').write_text('path: .\ntrain: images\nnc: 2\nnames:\n  0: apple\n  1: pear\n')


def yolo_darknet(root: Path) -> None:
    """CVAT's: texts beside the images, and obj.names."""
    write_images(root / 'images' / 'obj_train_data')
    write_yolo(root / 'images' / 'obj_train_data')
    (root / 'images' / 'obj.names').write_text('apple\npear\n')
    (root / 'images' / 'train.txt').write_text('data/obj_train_data/photo 00.jpg\n')


def yolo_segments(root: Path) -> None:
    write_images(root / 'images')
    write_yolo(root / 'labels', polygon=True)
    (root / 'labels' / 'classes.txt').write_text('apple\r\npear\r\n')


def labelme(root: Path) -> None:
    write_images(root / 'images')
    write_labelme(root / 'labels')


def table(root: Path) -> None:
    write_images(root / 'images')
    write_csv(root / 'images')


def table_with_semicolons(root: Path) -> None:
    write_images(root / 'images')
    write_csv(root / 'labels', ';')


LAYOUTS = (
    voc, voc_kit, coco, coco_with_text_ids, yolo_ultralytics, yolo_darknet, yolo_segments, labelme, table,
    table_with_semicolons,
)  # fmt: skip
