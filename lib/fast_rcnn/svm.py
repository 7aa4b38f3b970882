"""A linear SVM a class on the features of a trained net, learned from mined hard negatives.

As Fast R-CNN's tools/train_svms.py, which follows R-CNN (Girshick et al., CVPR 2014, appendix B; Felzenszwalb et al.,
PAMI 2010): the SVM is trained on a cache of negatives, new ones come from images that are gone through one after
another, those that it has learned are dropped. What the OHEM paper's section 2 calls hard example mining.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

import caffe
from detection_data.image_file import note_cut_off
from detection_data.imdb import imdb as Imdb
from fast_rcnn.bbox_transform import bbox_overlaps
from fast_rcnn.config import ConfigError, cfg
from fast_rcnn.predictors import layer_of
from fast_rcnn.test import im_detect
from roi_data_layer.image_blob import read_image
from roi_data_layer.roidb import Roidb

# R-CNN's settings
TARGET_NORM = 20.0  # the mean norm to which features are scaled
SCALE_IMAGES = 100  # images to measure it on
NEGATIVE_IOU = 0.3  # below this with all objects of the class, a RoI is a negative
HARD_SCORE = -1.0001  # above this, it is a hard one
EVICT_SCORE = -1.1  # below this, a negative leaves the cache
RETRAIN_LIMIT = 2000  # new negatives until the SVM is trained again
C = 0.001
BIAS_SCALE = 10.0
POSITIVE_WEIGHT = 2
MOST_ITERATIONS = 10_000  # of the solver; R-CNN had its own. scikit-learn's 1000 are not always enough


class ClassSVM:
    """The SVM of one class, and the examples that it learns from.

    `positives` (P, D) and `negatives` (N, D) are features as the net has them; `scale` is what they are multiplied by
    within. `weights` (D,) and `bias` score features as the net has them.
    """

    def __init__(self, name: str, dim: int, scale: float = 1.0):
        self.name, self.scale = name, scale
        self.positives, self.negatives = np.zeros((2, 0, dim), np.float32)
        self.weights, self.bias = np.zeros(dim, np.float32), 0.0
        self.converged = True
        self._new: list[np.ndarray] = []

    def add_negatives(self, features: np.ndarray) -> bool:
        """Adds `features` (n, D) to the cache. Whether more than RETRAIN_LIMIT are new: time to `fit`."""
        self._new.append(features)
        return sum(map(len, self._new)) > RETRAIN_LIMIT

    def fit(self) -> None:
        """Trains the SVM on the cache, and drops negatives that it scores below EVICT_SCORE, unless that were all.

        A class without examples of one kind keeps the scores that it has: 0, or -1 where nothing is positive.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        self.negatives, self._new = np.concatenate((self.negatives, *self._new)), []
        if len(self.positives) == 0 or len(self.negatives) == 0:
            self.bias = 0.0 if len(self.positives) else -1.0
            return
        machine = LinearSVC(
            C=C,
            class_weight={1: POSITIVE_WEIGHT, -1: 1},
            intercept_scaling=BIAS_SCALE,
            penalty='l2',
            loss='hinge',
            dual=True,
            max_iter=MOST_ITERATIONS,
            random_state=cfg.RNG_SEED,
        )
        examples = np.concatenate((self.positives, self.negatives)) * np.float32(self.scale)
        labels = np.repeat([1, -1], [len(self.positives), len(self.negatives)])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter('always')
            machine.fit(examples, labels)
        self.converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in said)
        self.weights = (machine.coef_[0] * self.scale).astype(np.float32)
        self.bias = float(machine.intercept_[0])
        kept = self.scores(self.negatives) >= EVICT_SCORE
        if kept.any():
            self.negatives = self.negatives[kept]

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(n,) for `features` (n, D)."""
        return features @ self.weights + np.float32(self.bias)


def train_svms(net: caffe.Net, imdb: Imdb) -> list[ClassSVM]:
    """Puts an SVM a class into `net`, in place of the weights that make cls_score, and returns them, from class 1 on.

    `net` is a trained net to test, with the blobs cls_score and what that is made of; `imdb` the data set to learn
    from, mirrored too if cfg.TRAIN.USE_FLIPPED, with the proposals of cfg.TRAIN.PROPOSAL_METHOD. The background scores
    0. Positives are the objects, negatives RoIs whose IoU with every object of the class is below NEGATIVE_IOU.
    Raises ConfigError for a net that proposes boxes itself, ValueError for one that does not fit.
    """
    if cfg.TEST.HAS_RPN or cfg.TRAIN.HAS_RPN or 'im_info' in net.blobs:
        raise ConfigError(
            'SVMs are trained on proposals that are computed beforehand: give a Fast R-CNN, HAS_RPN False'
        )
    layer, feature = _classifier(net)
    weights, bias = (blob.data for blob in net.params[layer])
    if len(weights) != imdb.num_classes:
        raise ValueError(f'the net knows {len(weights)} classes, {imdb.name} has {imdb.num_classes}: not its net?')
    with _row_for_row():
        roidb = Roidb(imdb)
        scale = _feature_scale(net, roidb, feature)
        print(f'Features of {feature}: {weights.shape[1]} numbers, scaled by {scale:.3f}')
        machines = [ClassSVM(name, weights.shape[1], scale) for name in imdb.classes[1:]]
        weights[...], bias[...] = 0, 0
        _add_positives(net, roidb, feature, machines)
        for entry in tqdm(roidb, desc='hard negatives', unit='image', disable=None):
            features = _features(net, entry, entry['boxes'], feature)
            for cls, machine in enumerate(machines, start=1):
                hard = negatives_of(entry, cls) & (machine.scores(features) > HARD_SCORE)
                if hard.any() and machine.add_negatives(features[hard]):
                    machine.fit()
        for cls, machine in enumerate(machines, start=1):
            machine.fit()
            weights[cls], bias[cls] = machine.weights, machine.bias
            print(_line(machine))
    return machines


def _classifier(net) -> tuple[str, str]:
    """The layer that makes cls_score, and the blob that it reads: fc7, on a pycaffe too old to name bottoms."""
    layer = layer_of(net, 'cls_score')
    feature = getattr(net, 'bottom_names', {}).get(layer, ['fc7'])[0]
    feature = re.sub(r'_.*_split_\d+$', '', feature)  # several layers read it, each a blob that is the same
    if 'cls_prob' not in net.blobs:
        raise ValueError('the net has no blob cls_prob: give the prototxt of a net to test')
    if layer is None or len(net.params[layer]) != 2 or feature not in net.blobs:
        raise ValueError('the net has no blob cls_score that a layer with weights and bias makes: no Fast R-CNN?')
    if net.params[layer][0].data.ndim != 2:
        raise ValueError(f'the layer {layer} is no fully connected one: SVMs need a feature a RoI')
    return layer, feature


@contextlib.contextmanager
def _row_for_row() -> Iterator[None]:
    """Within the `with`, row r of what the net computes is RoI r."""
    wanted = {'SCALE_CHOICE': 'nearest', 'BBOX_ITERATIONS': 1, 'SVM': True}
    before = {key: cfg.TEST[key] for key in wanted}, cfg.DEDUP_BOXES
    cfg.TEST.update(wanted)
    cfg.DEDUP_BOXES = 0.0
    try:
        yield
    finally:
        cfg.TEST.update(before[0])
        cfg.DEDUP_BOXES = before[1]


def _features(net, entry: dict, boxes: np.ndarray, feature: str) -> np.ndarray:
    """The features (n, D) of `boxes` (n, 4) in the image of a roidb's entry."""
    if len(boxes) == 0:
        return np.zeros((0, net.blobs[feature].data.shape[1]), np.float32)
    note_cut_off(entry['image'])
    image = read_image(entry['image'])
    im_detect(net, image[:, ::-1] if entry['flipped'] else image, boxes)
    return net.blobs[feature].data.reshape(len(boxes), -1).copy()


def _feature_scale(net, roidb: Roidb, feature: str) -> float:
    """What brings the mean norm of features to TARGET_NORM, measured on some images."""
    rng = np.random.default_rng(cfg.RNG_SEED)
    drawn = rng.choice(len(roidb), min(SCALE_IMAGES, len(roidb)), replace=False)
    norms = []
    for i in tqdm(drawn, desc='norm of features', unit='image', disable=None):
        entry = roidb[int(i)]
        norms.append(np.linalg.norm(_features(net, entry, entry['boxes'], feature), axis=1))
    mean = np.concatenate(norms).mean()
    if not np.isfinite(mean) or mean == 0:
        raise ValueError(f'the mean norm of the features {feature} is {mean}: is the net trained?')
    return float(TARGET_NORM / mean)


def _add_positives(net, roidb: Roidb, feature: str, machines: list[ClassSVM]) -> None:
    found: list[list[np.ndarray]] = [[machine.positives] for machine in machines]
    for entry in tqdm(roidb, desc='positives', unit='image', disable=None):
        objects = entry['gt_classes'] > 0
        features = _features(net, entry, entry['boxes'][objects], feature)
        for cls, features_of_class in enumerate(found, start=1):
            features_of_class.append(features[entry['gt_classes'][objects] == cls])
    for machine, parts in zip(machines, found, strict=True):
        machine.positives = np.concatenate(parts)


def negatives_of(entry: dict, cls: int) -> np.ndarray:
    """(n,) bool: which RoIs of a roidb's entry are negatives of a class."""
    objects = entry['boxes'][entry['gt_classes'] == cls]
    if len(objects) == 0:
        return np.ones(len(entry['boxes']), bool)
    return bbox_overlaps(entry['boxes'], objects).max(axis=1) < NEGATIVE_IOU


def _line(machine: ClassSVM) -> str:
    """What became of a class, for the log."""
    positives, negatives = len(machine.positives), len(machine.negatives)
    if positives == 0:
        return f'{machine.name}: no objects to learn from; it is never detected'
    if negatives == 0:
        return f'{machine.name}: no hard negatives were found; its scores are 0'
    missed = float((machine.scores(machine.positives) <= 0).mean())
    wrong = float((machine.scores(machine.negatives) > 0).mean())
    return (
        f'{machine.name}: {positives} positives, {100 * missed:.1f}% below 0; {negatives} negatives in the cache, '
        f'{100 * wrong:.1f}% above 0' + ('' if machine.converged else '; the solver stopped before it converged')
    )
