"""mAP on a data set of its own while a net is trained, without a change to the training.

The net for testing lies beside the one that is trained, and is given its parameters. Nothing is random in it, and each
pass of the training is seeded anew (see `train`), so a training ends with the same bytes with and without.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import caffe
import ranks
from caffe_stand_ins.prototxt import prototxt_with_stand_ins
from fast_rcnn.config import cfg
from fast_rcnn.model_card import ModelCardError, read_card
from fast_rcnn.test import check_settings, detect
from fast_rcnn.who_proposes import check_testing


def best_model(prefix: str) -> str:
    """Where a training with the files <prefix>_... keeps the model of the highest mAP."""
    return f'{prefix}_best.caffemodel'


class Validation:
    """mAP of the net that is trained on the data set `imdb`, by the net for testing in `prototxt`.

    imdb: with its proposals chosen. Raises ValueError, FileNotFoundError or what the data set raises where it cannot be
    tested on: better now than after a thousand iterations.
    """

    def __init__(self, prototxt: str, imdb):
        if not os.path.isfile(prototxt):
            raise FileNotFoundError(f'there is no test prototxt {prototxt}, which validation needs: name it by --def')
        check_testing(prototxt)
        _check(imdb)
        self.imdb = imdb
        self._prototxt = prototxt
        self._net: Any = None
        self._prefix = ''
        self.best: dict = {}
        """iteration, mAP and imdb of the best model so far; empty if there is none."""

    def begin(self, trained: caffe.Net, classes: Sequence[str], prefix: str, resumed: bool) -> None:
        """To be called once there is a net to train. prefix: of its files; resumed: they are those of an earlier part.

        Raises ValueError if the net for testing has other parameters than the one that is trained, or classes differ.
        """
        if classes and sorted(self.imdb.classes) == sorted(classes):
            if tuple(self.imdb.classes) != tuple(classes):  # its boxes are numbered as the net's scores are
                self.imdb.set_class_order(classes)
        elif classes:
            raise ValueError(
                f'{self.imdb.name}, to validate on, has the classes {list(self.imdb.classes)}; the training set has '
                f'{list(classes)}'
            )
        with tempfile.TemporaryDirectory() as folder:
            self._net = caffe.Net(prototxt_with_stand_ins(self._prototxt, folder), caffe.TEST)
        for name in self._net.params:
            shapes = [[list(blob.data.shape) for blob in net.params[name]] if name in net.params else None
                      for net in (self._net, trained)]  # fmt: skip
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f'{self._prototxt} tests another net than is trained: its layer {name} has parameters of shapes '
                    f'{shapes[0]}, the trained one {shapes[1] or "no such layer"}; name the right one by --def'
                )
        check_settings(self._net, None if cfg.TEST.HAS_RPN else [])
        scored = self._net.blobs['cls_prob'].data.shape[1] if 'cls_prob' in self._net.blobs else 0
        if scored != self.imdb.num_classes:
            raise ValueError(
                f'{self._prototxt} scores {scored} classes, {self.imdb.name} has {self.imdb.num_classes} with the '
                'background; name the right net by --def'
            )
        self._prefix = prefix
        is_there = resumed and ranks.is_root() and os.path.isfile(best_model(prefix))
        self.best = ranks.from_root(_best_in(best_model(prefix), self.imdb.name) if is_there else {})

    def is_due(self, iteration: int) -> bool:
        """Whether the net is to be tested after so many iterations."""
        return iteration % (cfg.TRAIN.VAL_ITERS or cfg.TRAIN.SNAPSHOT_ITERS) == 0

    def run(self, trained: caffe.Net, iteration: int, stop: Callable[[], bool]) -> dict | None:
        """Tests the net `trained`, which predicts plain regressions now; None if `stop()` came true in between.

        Returns iteration, mAP, images, seconds and ap {class: AP}, for the record; of several ranks, which share the
        work, all do. imdb's own numbers go to <prefix>_val/results.json.
        """
        started = time.perf_counter()
        for name, blobs in self._net.params.items():
            for i in range(len(blobs)):
                blobs[i].data[...] = trained.params[name][i].data
        all_boxes = detect(self._net, self.imdb, title='validation', stop=stop)
        found = None
        if all_boxes is not None and ranks.is_root():
            results = self.imdb.evaluate_detections(all_boxes, f'{self._prefix}_val', quiet=True)
            found = {
                'iteration': iteration,
                'mAP': _number(results['mAP']),
                **({'AP50': _number(results['AP50'])} if 'AP50' in results else {}),
                'images': self.imdb.num_images,
                'seconds': round(time.perf_counter() - started, 3),
                'ap': {name: _number(each['ap']) for name, each in results['classes'].items()},
            }
        return ranks.from_root(found)

    def is_better(self, found: dict) -> bool:
        """Whether what `run` returned is better than all before; notes it if so."""
        if found['mAP'] is None or found['mAP'] <= self.best.get('mAP', -1):
            return False
        self.best = {'imdb': self.imdb.name, 'iteration': found['iteration'], 'mAP': found['mAP']}
        return True

    def is_enough(self, iteration: int) -> bool:
        """Whether mAP has not risen for cfg.TRAIN.EARLY_STOP_ITERS iterations."""
        patience = cfg.TRAIN.EARLY_STOP_ITERS
        return bool(patience and self.best) and iteration - self.best['iteration'] >= patience

    def describe(self, found: dict) -> str:
        """A line on what `run` returned, after `is_better`."""
        number = 'no number' if found['mAP'] is None else f'{found["mAP"]:.4f}'
        also = f' (AP50 {found["AP50"]:.4f})' if found.get('AP50') is not None else ''
        best = self.best
        rank = (
            'the best so far'
            if best.get('iteration') == found['iteration']
            else f'best {best["mAP"]:.4f} at {best["iteration"]}'
            if best
            else ''
        )
        return f'Iteration {found["iteration"]}: mAP {number}{also} on {self.imdb.name}, {rank}'.rstrip(', ')


def _number(value: float) -> float | None:
    return round(float(value), 6) if value is not None and math.isfinite(value) else None


def _best_in(path: str, name: str) -> dict:
    """iteration, mAP and imdb as the card in a best model says; empty if it says nothing, or of another set."""
    try:
        card = read_card(path)
    except (ModelCardError, OSError):
        return {}
    stored = card.validation if card else {}
    sound = type(stored.get('iteration')) is int and isinstance(stored.get('mAP'), (int, float))
    return stored if sound and stored.get('imdb') == name else {}


def _check(imdb) -> None:
    """Raises what is wrong with a set to validate on: a missing image, label or proposal, or nothing to be found."""
    if getattr(imdb, 'withheld', False):
        raise ValueError(f'{imdb.name}: its ground truth is withheld, so there is no mAP to train by')
    objects = 0
    for i in range(imdb.num_images):
        imdb.image_path_at(i)
        objects += int((~imdb.annotation(i)['difficult']).sum())
        if not cfg.TEST.HAS_RPN:
            imdb.proposals_of(i)
    if not objects:
        raise ValueError(f'{imdb.name} has no objects to be found (none, or all difficult): give another set as --val')
