#!/usr/bin/env python3
"""What a rank needs for a training set of a million images: seconds until it begins, memory, open files.

experiments/large_set.py --images 1000000                    nothing but labels, as Faster R-CNN trains
experiments/large_set.py --images 1000000 --boxes 100        and so many proposals an image

The set is in COCO's format and made up: 7.3 objects an image, COCO's mean, of 80 classes. All images are one file.
It is made in --folder (default: a temporary one).
"""

from __future__ import annotations

import _environment  # noqa: F401

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

LIB = Path(__file__).resolve().parent.parent / 'lib'
CLASSES, OBJECTS = 80, 7.3
WIDTH, HEIGHT = 640, 480
CHUNK = 10_000  # images written at a time


def write_set(folder: Path, images: int, boxes: int) -> None:
    """Writes labels.json and, where there are to be boxes, proposals.h5; nothing if they are there already."""
    done = folder / f'set_of_{images}_{boxes}'
    if done.exists():
        return
    (folder / 'train').mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    cv2.imwrite(str(folder / 'train' / '0.jpg'), pixels)
    rng = np.random.default_rng(1)
    counts = rng.poisson(OBJECTS - 1, images) + 1
    with open(folder / 'labels.json', 'w') as file:
        file.write('{"categories": ' + json.dumps([{'id': c, 'name': f'class {c}'} for c in range(1, CLASSES + 1)]))
        file.write(', "images": [')
        for first in range(0, images, CHUNK):
            rows = range(first, min(first + CHUNK, images))
            file.write(',\n' * bool(first))
            file.write(',\n'.join(
                f'{{"id": {i}, "file_name": "{"./" * (i % 5)}train/0.jpg", "width": {WIDTH}, "height": {HEIGHT}}}'
                for i in rows
            ))  # fmt: skip
        file.write('],\n"annotations": [')
        for first in range(0, images, CHUNK):
            of_image = np.repeat(np.arange(first, min(first + CHUNK, images)), counts[first : first + CHUNK])
            b = _boxes(rng, len(of_image))
            classes = rng.integers(1, CLASSES + 1, len(of_image))
            file.write(',\n' * bool(first))
            file.write(',\n'.join(
                f'{{"image_id": {i}, "category_id": {c}, "bbox": [{x1}, {y1}, {x2 - x1}, {y2 - y1}]}}'
                for i, c, (x1, y1, x2, y2) in zip(of_image.tolist(), classes.tolist(), b.tolist(), strict=True)
            ))  # fmt: skip
        file.write(']}\n')
    if boxes:
        from detection_data.proposals import write_proposals

        ids = [str(i) for i in range(images)]
        write_proposals(str(folder / 'proposals.h5'), ids, (_boxes(rng, boxes) for _ in ids), 'random')
    done.touch()


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 4) whole numbers: boxes of all sizes within the image."""
    ends = rng.random((count, 2, 2))
    ends.sort(axis=1)
    low, high = np.floor(ends[:, 0] * (WIDTH - 2, HEIGHT - 2)), np.ceil(ends[:, 1] * (WIDTH - 2, HEIGHT - 2)) + 1
    return np.concatenate((low, high), axis=1).astype(np.int64)


def memory(pid: int | str = 'self') -> tuple[float, float]:
    """MiB that a process has of its own, and that it shares with others, its part of them."""
    numbers = {}
    for line in Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()[1:]:
        name, value = line.split()[:2]
        numbers[name.rstrip(':')] = int(value) / 1024
    own = numbers['Private_Clean'] + numbers['Private_Dirty']
    return own, numbers['Pss'] - own


class Report:
    """Prints a line of a Markdown table for each step, with its seconds."""

    def __init__(self):
        print('| step | seconds | of them computing | MiB of its own | MiB shared | most so far | open files |')
        print('| --- | ---: | ---: | ---: | ---: | ---: | ---: |')
        self._since = time.perf_counter(), time.process_time()

    def __call__(self, step: str, pid: int | str = 'self') -> None:
        now = time.perf_counter(), time.process_time()
        seconds, computing = (after - before for after, before in zip(now, self._since, strict=True))
        own, shared = memory(pid)
        status = Path(f'/proc/{pid}/status').read_text()
        peak = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith('VmHWM'))
        files = len(os.listdir(f'/proc/{pid}/fd'))
        print(
            f'| {step} | {seconds:.1f} | {computing:.1f} | {own:.0f} | {shared:.0f} | {peak:.0f} | {files} |',
            flush=True,
        )
        self._since = time.perf_counter(), time.process_time()


def measure(folder: Path, boxes: int, workers: int) -> None:
    """Prints what each step of a rank's start needs."""
    from detection_data.factory import get_imdb
    from fast_rcnn.agreement import digest_of_roidb
    from fast_rcnn.config import cfg
    from roi_data_layer.prefetch import Prefetcher
    from roi_data_layer.roidb import Roidb

    cfg.TRAIN.HAS_RPN, cfg.TRAIN.PREFETCH_WORKERS = not boxes, workers
    cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED = not boxes
    report = Report()
    report('programs')
    data_set = get_imdb(f'coco:{folder}/labels.json:{folder}')
    data_set.set_proposal_method('random' if boxes else 'gt', str(folder / 'proposals.h5') if boxes else None)
    report('labels read')
    roidb = Roidb(data_set)
    report('training set gone through')
    digest_of_roidb(roidb)
    report('compared with other ranks')
    loaders = Prefetcher(roidb, data_set.num_classes)
    loaders(0)
    report(f'first mini-batch, by {workers} loader processes')
    pids = list(loaders._pool._processes)
    report('... one of those', pids[0])
    loaders.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=1_000_000)
    parser.add_argument('--boxes', type=int, default=0, help='proposals an image (default: 0, as with an RPN)')
    parser.add_argument('--workers', type=int, default=2, help='loader processes (default: 2)')
    parser.add_argument('--folder', type=Path, help='where the set is, or is made; it stays there')
    args = parser.parse_args()
    sys.path.insert(0, str(LIB))
    with tempfile.TemporaryDirectory() as passing:
        folder = args.folder or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        pid = os.fork()  # made by another process: its memory is not to be counted
        if pid == 0:
            write_set(folder, args.images, args.boxes)
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            sys.exit('large_set.py: error: the set could not be made')
        measure(folder, args.boxes, args.workers)


if __name__ == '__main__':
    main()
