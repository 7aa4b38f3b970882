"""Detections on disk: one .npz file of plain arrays.

    boxes     (n, 5) float32: x1, y1, x2, y2, score
    image     (n,) int32: index into image_ids
    cls       (n,) int32: index into classes
    image_ids (I,) text, classes (K,) text, of which classes[0] is the background

Detections are sorted by class, then by image.
"""

import itertools
import json
import os
from collections.abc import Collection
from typing import Any

import numpy as np

import whole_file
from detection_data.factory import get_imdb, list_imdbs


def save_detections(path: str, all_boxes: list, classes: list[str], image_ids: list[str]) -> None:
    """Write `all_boxes[class][image]`, (n, 5) arrays, to `path`. The file appears whole or not at all."""
    cells = [(c, i, dets) for c, row in enumerate(all_boxes) for i, dets in enumerate(row) if len(dets)]
    counts = [len(dets) for _, _, dets in cells]
    arrays = {
        'boxes': np.concatenate([np.zeros((0, 5)), *(dets for _, _, dets in cells)]).astype(np.float32),
        'image': np.repeat(np.array([i for _, i, _ in cells], dtype=np.int32), counts),
        'cls': np.repeat(np.array([c for c, _, _ in cells], dtype=np.int32), counts),
        'image_ids': np.array(image_ids, dtype=str),
        'classes': np.array(classes, dtype=str),
    }
    with whole_file.in_memory(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_detections(path: str) -> tuple[list, list[str], list[str]]:
    """What `save_detections` wrote: (all_boxes, classes, image_ids). Raises ValueError if it is not such a file."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            boxes, image, cls = stored['boxes'], stored['image'], stored['cls']
            classes, image_ids = stored['classes'].tolist(), stored['image_ids'].tolist()
    except FileNotFoundError:
        raise FileNotFoundError(f'no detections file {path}; tools/test_net.py writes it') from None
    except PermissionError:
        raise PermissionError(f'{path}: this user may not read it; change its permissions') from None
    except Exception as error:  # zipfile, zlib and numpy raise many kinds on a damaged file
        raise ValueError(f'{path}: not a detections file, or damaged ({error}); test again to write it anew') from None
    cell = cls.astype(np.int64) * len(image_ids) + image
    edges = np.searchsorted(cell, np.arange(len(classes) * len(image_ids) + 1))
    cells = [boxes[a:b] for a, b in itertools.pairwise(edges)]
    count = len(image_ids)
    return [cells[c * count : (c + 1) * count] for c in range(len(classes))], classes, image_ids


def results_in(folder: str, name: str | None) -> tuple[Any, list]:
    """What test_net.py left in `folder`: (imdb, all_boxes), the data set and `all_boxes[class][image]`, (n, 5) arrays.

    name: of the data set; None for the one that results.json there names. Raises FileNotFoundError, or ValueError if
    the detections are for other classes or images than the set has.
    """
    check_folder(folder)
    imdb = get_imdb(name or data_set_of(folder, list_imdbs()))
    path = os.path.join(folder, 'detections.npz')
    all_boxes, classes, image_ids = load_detections(path)
    if classes != list(imdb.classes) or image_ids != [str(i) for i in imdb.image_index]:
        raise ValueError(f'{path} holds detections for other classes or images than {imdb.name} has: give their --imdb')
    return imdb, all_boxes


def check_folder(folder: str) -> None:
    """Raises FileNotFoundError if there is no such folder of results."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'no such folder: {folder}; expected is the one in which test_net.py left its results')


def data_set_of(folder: str, known: Collection[str]) -> str:
    """The data set that the results.json of a folder names, several joined by +. Raises ValueError if that is not among
    the `known` names: of an own folder of images the results hold no path.
    """
    name = None
    try:
        with open(os.path.join(folder, 'results.json'), encoding='utf-8', errors='replace') as file:
            results = json.load(file)
        name = results.get('imdb') if isinstance(results, dict) else None
    except (OSError, ValueError, RecursionError):
        pass
    if not isinstance(name, str):
        raise ValueError(f'{folder}: no results.json there names the data set: give --imdb NAME, as to test_net.py')
    if not all(part in known for part in name.split('+')):
        raise ValueError(f'{folder} has results of {name}, an own data set: give --imdb, as to test_net.py')
    return name
