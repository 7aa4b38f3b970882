"""Memory does not grow with the data set: COCO's size, 120,000 images with 2000 proposals each."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

LIB = Path(__file__).parents[2] / 'lib'

# In a process of its own, so that other tests' memory does not count. The images are one JPEG file.
PROGRAM = """
    import sys, os, time
    import cv2, h5py, numpy as np
    sys.path.insert(0, sys.argv[1])
    folder, images, per_image = sys.argv[2], int(sys.argv[3]), 2000
    from detection_data.coco import coco
    from fast_rcnn.config import cfg
    from roi_data_layer.prefetch import BatchMaker
    from roi_data_layer.roidb import Roidb

    def memory():  # of this process alone, in MB: mapped pages belong to the system's cache
        with open('/proc/self/status') as f:
            return next(int(line.split()[1]) for line in f if line.startswith('RssAnon')) / 1024

    cv2.imwrite(os.path.join(folder, 'a.jpg'), np.zeros((60, 80, 3), np.uint8))
    rng = np.random.default_rng(0)
    with open(os.path.join(folder, 'l.json'), 'w') as f:
        f.write('{"categories": [{"id": 1, "name": "cat"}], "images": [')
        f.write(','.join(
            f'{{"id": {k}, "file_name": "a.jpg", "width": 80, "height": 60}}' for k in range(images)))
        f.write('], "annotations": [')
        f.write(','.join(
            f'{{"id": {7 * k + j}, "image_id": {k}, "category_id": 1, "bbox": [{j}, {2 * j}, {20 + j}, 30]}}'
            for k in range(images) for j in range(7)))
        f.write(']}')

    corner = rng.integers(0, [50, 30], (per_image, 2))
    boxes = np.hstack([corner, corner + rng.integers(8, 29, (per_image, 2))]).astype(np.uint16)
    os.makedirs(os.path.join(folder, 'proposals'))
    with h5py.File(os.path.join(folder, 'proposals', 'selective_search_l.h5'), 'w') as f:
        f.attrs.update(format='proposals', format_version=1, method='selective_search', parameters='{}')
        stored = f.create_dataset('boxes', (images * per_image, 4), np.uint16)
        for start in range(0, images, 500):
            n = min(500, images - start)
            stored[start * per_image : (start + n) * per_image] = np.tile(boxes, (n, 1))
        f.create_dataset('offsets', data=np.arange(images + 1, dtype=np.int64) * per_image)
        f.create_dataset('image_ids', data=[str(k) for k in range(images)], dtype=h5py.string_dtype())

    cfg.TRAIN.SCALES, cfg.TRAIN.BG_THRESH_LO, cfg.TRAIN.USE_OHEM = (60,), 0.0, True
    began, before = time.time(), memory()
    roidb = Roidb(coco('l', folder + '/l.json', folder, folder + '/proposals/{method}_l.h5'))
    assert len(roidb) == 2 * images
    print(f'start {time.time() - began:.1f} s, {memory() - before:.0f} MB for {images} images', flush=True)
    maker = BatchMaker(roidb, 2)
    for n in range(100):
        maker(n)
    settled, began = memory(), time.time()
    for n in range(100, 100 + int(sys.argv[4])):
        blobs, _ = maker(n)
    assert len(blobs['rois']) == 2 * (per_image + 7)
    print(f'batch {(time.time() - began) / int(sys.argv[4]):.4f} s')
    print('growth', memory() - settled)
    print('total', memory() - before)
    os.unlink(os.path.join(folder, 'proposals', 'selective_search_l.h5'))  # 2 GB
"""


def simulate(tmp_path, images: int, batches: int) -> dict[str, float]:
    program = tmp_path / 'program.py'
    program.write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, program, LIB, tmp_path, str(images), str(batches)],
        capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return {
        line.split()[0]: float(line.split()[1])
        for line in done.stdout.splitlines()
        if line.split()[0] in ('growth', 'total')
    }


@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='reads /proc')
@pytest.mark.parametrize('images', [500, pytest.param(120_000, marks=pytest.mark.slow)])
def test_memory_is_flat_while_mini_batches_are_drawn(tmp_path, images):
    measured = simulate(tmp_path, images, batches=300)
    assert measured['growth'] < 30  # MB; 300 mini-batches of 4000 RoIs, were they kept, would be 100
    # Beside what a mini-batch needs: of the images 1.5 KB each (ids, sizes, 7 objects, a bounded number of
    # parsed annotations), not the 2000 proposals (16 KB as stored, 32 KB as used).
    assert measured['total'] < 60 + images * 1.5e-3
