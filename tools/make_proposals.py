#!/usr/bin/env python3
"""Compute the region proposals of a data set and write them where the data set looks for them.

    python tools/make_proposals.py --imdb folder:data/demo:train+folder:data/demo:test --jobs 2

The result depends on the images, the method, the seed and the limits, not on --jobs. Finished pieces are kept
beside the output while the work goes on, so an interrupted run continues when the same command is given
again.
"""

import _init_paths  # noqa: F401

# isort: split

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

import ranks
import whole_file
from _command_line import run
from command_line import interrupts
from detection_data.factory import get_imdb
from detection_data.image_file import note_cut_off, read_image
from detection_data.imdb import JoinedImdb, imdb
from detection_data.proposal_methods import check_edge_model
from detection_data.proposals import METHODS, Proposals, ProposalsError, propose, write_proposals
from detection_data.recall import best_overlaps, recall_at
from fast_rcnn.training_lock import ProposalsLock
from roi_data_layer.worker_pool import WorkerPool

PIECE = 8  # images computed and saved together; Ctrl-C waits for the pieces at work


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or '').partition('\n')[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--imdb', required=True, help='data set, or several joined by +')
    parser.add_argument('--method', default='selective_search', choices=METHODS)
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='processes')
    parser.add_argument('--max_boxes', type=int, default=2000, help='at most so many an image')
    parser.add_argument('--seed', type=int, default=3, help='of the order of the boxes')
    parser.add_argument(
        '--resize_to',
        type=width_or_auto,
        metavar='WIDTH',
        help="search in images scaled to this width; 'auto': to 500 pixels, those that are wider",
    )
    parser.add_argument('--edge_model', metavar='FILE', help="for edge_boxes: OpenCV's model of structured forests")
    parser.add_argument(
        '--extend', action='store_true', help='keep the proposals that are there, and compute those of new images'
    )
    parser.add_argument('--recall', action='store_true', help='report the recall of the ground truth when done')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args(argv)
    for name in ('jobs', 'max_boxes', 'resize_to'):
        value = getattr(args, name)
        if isinstance(value, int) and value < 1:
            raise ValueError(f'--{name} is {value}; expected 1 or more')
    return args


def width_or_auto(text: str) -> int | str:
    """What --resize_to takes."""
    try:
        return text if text == 'auto' else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a width in pixels, or 'auto'") from None


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.method == 'edge_boxes':
        check_edge_model(args.edge_model)
    try:
        data_set = get_imdb(args.imdb)
        for part in data_set.parts if isinstance(data_set, JoinedImdb) else [data_set]:
            make(part, args)
    except KeyboardInterrupt:
        print('\ninterrupted; what is finished is kept: give the same command to go on', file=sys.stderr)
        return 130
    return 0


def make(data_set: imdb, args: argparse.Namespace) -> None:
    """Make the proposals of one data set; does nothing if they are there, made with the same settings."""
    path = data_set.proposals_path(args.method)
    settings = {
        'method': args.method,
        'max_boxes': args.max_boxes,
        'seed': args.seed,
        'resize_to': args.resize_to,
        'opencv': cv2.__version__,
    }
    if args.method == 'edge_boxes':
        settings['edge_model'] = args.edge_model
    images = digest(file_sizes(data_set, range(data_set.num_images)))
    if os.path.exists(path):
        there = Proposals(path, made_for=data_set.spec, method=args.method)
        # A newer OpenCV is no reason to throw the boxes away.
        immaterial = {'opencv': None, 'edge_model': None, 'images': None}
        if {**there.parameters, **immaterial} != {**settings, **immaterial}:
            raise ProposalsError(
                f'{path} is there, but of other settings ({json.dumps(there.parameters)}, now '
                f'{json.dumps(settings)}); remove it to make it anew'
            )
        row_of = {image_id: i for i, image_id in enumerate(data_set.image_index)}
        gone = [image_id for image_id in there.image_ids if image_id not in row_of]
        new = [i for i, image_id in enumerate(data_set.image_index) if image_id not in there]
        known = [row_of[image_id] for image_id in there.image_ids if image_id in row_of]
        then = digest(file_sizes(data_set, known))
        if not gone and there.parameters.get('images', then) != then:  # older files do not say
            raise ProposalsError(
                f'{path} is there, but image files of {data_set.spec} have changed since it was made; remove it to '
                'make it anew'
            )
        if there.image_ids == data_set.image_index:
            print(f'{path} is there already')
        elif args.extend:
            write(path, data_set, new, {**settings, 'images': images}, args.jobs, there)
        else:
            raise ProposalsError(
                f'{path} is there, but {data_set.spec} has changed since it was made: of its '
                f'{data_set.num_images} images {len(new)} are new, {len(gone)} are gone, or their order is another; '
                '--extend keeps what is there and computes what is new'
            )
    else:
        write(path, data_set, range(data_set.num_images), {**settings, 'images': images}, args.jobs)
    if args.recall:
        data_set.set_proposal_method(args.method)
        best, _ = best_overlaps(data_set)
        for threshold in (0.5, 0.7):
            print(f'recall of {data_set.name} at IoU {threshold}: {recall_at(best, threshold):.4f}')


def write(
    path: str, data_set: imdb, missing: Sequence[int], parameters: dict, jobs: int, there: Proposals | None = None
) -> None:
    """Write the proposals of a set: of the images `missing` they are computed, of the others taken from `there`."""
    with contextlib.closing(ProposalsLock(path)) if ranks.is_root() else contextlib.nullcontext():
        write_alone(path, data_set, missing, parameters, jobs, there)


def write_alone(
    path: str, data_set: imdb, missing: Sequence[int], parameters: dict, jobs: int, there: Proposals | None
) -> None:
    """What `write` does while no other process does the same."""
    settings = {key: value for key, value in parameters.items() if key != 'images'}
    computed = compute(data_set, missing, settings, path + '.partial', jobs)
    new = {data_set.image_index[i] for i in missing}
    boxes = (
        next(computed) if there is None or image_id in new else there.of(image_id) for image_id in data_set.image_index
    )
    if ranks.is_root():
        write_proposals(path, data_set.image_index, boxes, settings['method'], parameters)
        shutil.rmtree(path + '.partial')
    ranks.from_root(None)
    made = Proposals(path)
    kept = f', {len(made) - len(new)} of them as they were' if there is not None else ''
    print(f'wrote {path}: {len(made)} images{kept}, {made.num_boxes / len(made):.0f} boxes an image')


def compute(data_set: imdb, images: Sequence[int], settings: dict, folder: str, jobs: int) -> Iterator[np.ndarray]:
    """The boxes of `images`, in order. Pieces are saved in `folder`; those found there are not redone."""
    os.makedirs(folder, exist_ok=True)
    pieces = []
    for start in range(0, len(images), PIECE):
        indices = images[start : start + PIECE]
        ids = [data_set.image_index[i] for i in indices]
        key = json.dumps([settings, ids, file_sizes(data_set, indices)])
        pieces.append(
            (os.path.join(folder, f'{start:07d}.npz'), key, ids, [data_set.image_path_at(i) for i in indices])
        )

    mine = pieces[ranks.rank() :: ranks.count()]
    missing = [piece for piece in mine if load_piece(*piece[:2]) is None]
    total = sum(len(ids) for _, _, ids, _ in mine)
    done = total - sum(len(ids) for _, _, ids, _ in missing)
    if missing:
        pool = WorkerPool(min(jobs, len(missing)))
        try:
            with tqdm(total=total, initial=done, unit='image', desc=data_set.name) as bar:
                futures = {pool.submit(compute_piece, *piece, settings): len(piece[2]) for piece in missing}
                for future in as_completed(futures):
                    future.result()
                    bar.update(futures[future])
        except KeyboardInterrupt:
            interrupts.end_at_once(os.path.basename(sys.argv[0]))  # before it is promised
            print('\nfinishing the images at work; Ctrl-C again to stop at once', file=sys.stderr, flush=True)
            raise
        except BrokenProcessPool:
            raise RuntimeError(
                'a process that computes proposals ended unexpectedly. Out of memory? Try fewer --jobs; what '
                'is finished is kept'
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    ranks.share(None)  # the pieces of all are in the folder, which ranks on other machines have to see too
    return (boxes for path, key, _, _ in pieces for boxes in saved_piece(path, key))


def file_sizes(data_set: imdb, indices: Sequence[int]) -> list[int]:
    """In bytes, of image files: another picture of the same name is told by it, without all being read."""
    return [os.path.getsize(data_set.image_path_at(i)) for i in indices]


def digest(sizes: Sequence[int]) -> str:
    return hashlib.md5(json.dumps(sizes).encode(), usedforsecurity=False).hexdigest()


def compute_piece(path: str, key: str, ids: list[str], image_paths: list[str], settings: dict) -> None:
    """Compute and save the boxes of a few images (in a worker process)."""
    boxes = []
    for image_id, image_path in zip(ids, image_paths, strict=True):
        arguments: dict[str, Any] = {k: settings.get(k) for k in ('seed', 'max_boxes', 'resize_to', 'edge_model')}
        note_cut_off(image_path)
        image = read_image(image_path)
        try:
            boxes.append(propose(image, settings['method'], image_id, **arguments))
        except ValueError as e:
            raise ValueError(f'{image_path}: {e}') from None
    with whole_file.in_memory(path) as file:
        np.savez(file, key=key, counts=[len(b) for b in boxes], boxes=np.concatenate(boxes))


def saved_piece(path: str, key: str) -> list[np.ndarray]:
    """The boxes of a piece that has been saved. Raises RuntimeError if it is gone."""
    boxes = load_piece(path, key)
    if boxes is None:
        raise RuntimeError(f'{path}: was written and is gone or changed; give the same command again')
    return boxes


def load_piece(path: str, key: str) -> list[np.ndarray] | None:
    """The boxes of a saved piece, or None if it is not there or was made for something else."""
    try:
        with np.load(path, allow_pickle=False) as f:
            if str(f['key']) != key:
                return None
            return np.split(f['boxes'], np.cumsum(f['counts'])[:-1])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


if __name__ == '__main__':
    run(main, lambda: parse_args(None))
