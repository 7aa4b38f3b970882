"""A trained detector as an object: photographs in, named boxes out.

    from fast_rcnn import Detector

    detector = Detector.load('fruit_iter_1400.caffemodel')
    for box in detector('photo.jpg'):
        print(box.name, box.score, box.x1, box.y1, box.x2, box.y2)

What it goes by is its own: cfg is neither read nor changed, so detectors of different settings live side by side.
"""

import copy
import dataclasses
import numbers
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np
from google.protobuf import text_format

import caffe
import whole_file
from caffe.proto import caffe_pb2
from caffe_stand_ins.prototxt import lacking, rewrite
from detection_data.image_file import DamagedImage, ImageError, cut_off, image_scale, read_image
from detection_data.image_list import listed_images
from detection_data.proposal_methods import METHODS, method_for, propose
from fast_rcnn.config import cfg_from_dict, settings_of, settings_of_file
from fast_rcnn.model_card import ModelCard, ModelCardError, check_is_model, class_names, read_card
from fast_rcnn.test import detections, im_detect_batch, load_net
from rpn.proposal_layer import ProposalLayer

THRESH, OF_SVMS = 0.6, 0.0  # least scores, where nothing else is said
MAX_PER_IMAGE = 100

_NARROW = 32  # pixels of a scaled image, of which layers that pool may have none left

# What a net within weights may do: the Python layers of ours that test nets have, and nothing with files
_PYTHON_LAYERS = {
    ('rpn.proposal_layer', 'ProposalLayer'),
    ('transform.torch_image_transform_layer', 'TorchImageTransformLayer'),
    ('caffe_stand_ins.layers', 'RoIPooling'),
    ('caffe_stand_ins.layers', 'SmoothL1Loss'),
}
_OF_FILES = {'Data', 'ImageData', 'WindowData', 'HDF5Data', 'HDF5Output'}

Image = str | os.PathLike | np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """One object found: its class, how sure the net is (0 to 1), and its box in pixels, both ends included."""

    name: str
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


class Detections(Sequence):
    """What was found in one image: a sequence of `Box`, the best score first.

    As arrays: boxes (n, 4) float32, (x1, y1, x2, y2) in pixels of the image, both ends included; scores (n,) float32;
    classes (n,) int64, 1 being the first of the detector's `classes`; names, n texts. Besides: image, the path that was
    given, None for an array; width and height of the image in pixels.
    """

    def __init__(self, per_class: list[np.ndarray], classes: Sequence[str], size: tuple[int, int], image: str | None):
        found = np.concatenate(per_class)
        numbers = np.repeat(np.arange(1, len(per_class) + 1), [len(dets) for dets in per_class])
        order = np.argsort(-found[:, 4], kind='stable')
        self.boxes, self.scores, self.classes = found[order, :4], found[order, 4], numbers[order]
        self.names = [classes[number - 1] for number in self.classes]
        self.width, self.height = size
        self.image = image

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return Box(self.names[i], float(self.scores[i]), *self.boxes[i].tolist())

    def __repr__(self) -> str:
        found = ', '.join(f'{box.name} {box.score:.2f}' for box in self[:5])
        where = '' if self.image is None else f' in {self.image}'
        return f'<{len(self)} detections{where}{": " if found else ""}{found}{", ..." if len(self) > 5 else ""}>'

    def as_dicts(self) -> list[dict]:
        """[{'class': name, 'score': s, 'box': [x1, y1, x2, y2]}, ...], as `inspection.draw` takes them."""
        return [{'class': b.name, 'score': b.score, 'box': [b.x1, b.y1, b.x2, b.y2]} for b in self]


class Detector:
    """A net with what it needs to know: `Detector.load` makes one.

    detector(image): `Detections` of one image, which is a path, or an array (H, W, 3), uint8, BGR as OpenCV reads it.
    detector([image, ...]) and detector('folder'): a list of them, one an image, in the order given, of a folder and
    those below it in the order of names. `each` is the same one after another, for more images than memory holds.

    The numbers are those of `fast_rcnn.test.im_detect` and `detections`, byte for byte. Images of one size within
    `batch` that follow each other share a forward pass; with a batch above 1 the last digit may differ.

    Any number of threads may call it: forward passes are made one after another, reading images, proposing boxes and
    suppression beside them. Attributes: classes, the names without the background; thresh, max_per_image, batch,
    proposals, which may be set at any time; settings, of the form of cfg; proposes, whether the net has an RPN.
    """

    def __init__(
        self,
        net: caffe.Net,
        classes: Sequence[str],
        settings: Any = None,
        *,
        thresh: float | None = None,
        max_per_image: int = MAX_PER_IMAGE,
        proposals: str = 'auto',
        batch: int | None = None,
    ):
        """A detector around a net that is there: `classes` without the background, `settings` of the form of cfg.

        The net is the detector's from now on. Raises ValueError if net, classes and the rest do not fit together.
        """
        missing = [name for name in ('data', 'cls_prob') if name not in net.blobs]
        if missing:
            raise ValueError(f'the net has no blob {" and no ".join(missing)}: it is no test net of a detector')
        count = net.blobs['cls_prob'].data.shape[1]
        if count != len(classes) + 1:
            raise ValueError(
                f'the net scores {count} classes with the background, but there are {len(classes)} names: '
                f'{", ".join(classes)}. Give the right prototxt, or the right classes'
            )
        if proposals != 'auto' and proposals not in METHODS:
            raise ValueError(f'there is no proposal method {proposals!r}; there are: auto, {", ".join(METHODS)}')
        self.settings = settings_of({}) if settings is None else copy.deepcopy(settings)
        if thresh is None:
            thresh = OF_SVMS if self.settings.TEST.SVM else THRESH
        if not _is_a(numbers.Real, thresh) or not (self.settings.TEST.SVM or 0 <= thresh <= 1):
            expected = 'a number' if self.settings.TEST.SVM else 'a number from 0 to 1'
            raise ValueError(f'thresh is {thresh!r}; expected {expected}')
        if not _is_a(numbers.Integral, max_per_image) or max_per_image < 0:
            raise ValueError(f'max_per_image is {max_per_image!r}; expected a whole number: 0, for all, or more')
        self.batch = self.settings.TEST.IMS_PER_BATCH if batch is None else batch
        if not _is_a(numbers.Integral, self.batch) or self.batch < 1:
            raise ValueError(f'batch is {self.batch!r}; expected a whole number of images, 1 or more')
        self.classes = tuple(classes)
        self.thresh, self.max_per_image, self.proposals = thresh, max_per_image, proposals
        self.proposes = 'im_info' in net.blobs
        self.settings.TEST.HAS_RPN = self.proposes
        self.net = net
        self._lock = threading.Lock()
        layers = getattr(net, 'layers', ())
        for layer in (layers[i] for i in range(len(layers))):
            if isinstance(layer, ProposalLayer):
                layer.settings = self.settings.TEST

    @classmethod
    def load(
        cls,
        caffemodel: str | os.PathLike,
        prototxt: str | os.PathLike | None = None,
        *,
        classes: Sequence[str] | None = None,
        settings: dict | str | os.PathLike | None = None,
        **options,
    ) -> 'Detector':
        """The detector of trained weights, which say by themselves what their classes and settings are.

        prototxt: of the test net; without it, that beside the weights, of their name, test.prototxt or deploy.prototxt;
        else the one within them: training puts test.prototxt there that is beside its train.prototxt.
        classes: names without the background, for weights of other programs, which name none.
        settings: a YAML file or a dictionary, {'TEST': {'SCALES': [400]}}, on top of those that the weights bring.
        options: thresh, the least score (0.6, of SVMs 0; testing takes 0.05); max_per_image (100; 0: all); proposals,
        the method for nets without an RPN: auto, selective search or, where OpenCV has none, random boxes; batch.

        The device is the process's: caffe.set_mode_gpu(), caffe.set_mode_cpu(). Raises FileNotFoundError, ValueError
        (ConfigError, ModelCardError).
        """
        path = os.fspath(caffemodel)
        if not os.path.isfile(path):
            raise FileNotFoundError(f'there are no trained weights {path}')
        card = read_card(path)
        if card is None:
            check_is_model(path)
        names = class_names(card, path, classes)
        if names is None:
            raise ValueError(f"{path} does not name its classes: give their names, classes=['cat', 'dog']")
        own = settings_of({} if card is None else card.settings, f'what {path} says of its settings')
        if settings is not None:
            if isinstance(settings, dict):
                cfg_from_dict(settings, 'settings=', own)
            else:
                cfg_from_dict(settings_of_file(os.fspath(settings)), os.fspath(settings), own)
        found = _prototxt_beside(path) if prototxt is None else os.fspath(prototxt)
        if found is not None:
            return cls(load_net(found, path), names, own, **options)
        with tempfile.TemporaryDirectory() as folder:
            within = os.path.join(folder, 'test.prototxt')
            whole_file.write_text(within, _net_within(card, path))
            return cls(load_net(within, path), names, own, **options)

    def __call__(self, images: Image | Iterable[Image], proposals=None):
        """`Detections` of an image, or a list of them: see the class.

        proposals: for nets without an RPN, (R, 4) boxes (x1, y1, x2, y2) in pixels of the image, both ends included; of
        a list or a folder, a list of such arrays. Without them the method of that name proposes.

        Warns of a file that is cut off (DamagedImage). Raises ImageError, which names the image, for one that cannot
        be read or used; TypeError, ValueError for what is
        no image and for proposals that do not fit.
        """
        if _is_one(images):
            return next(self.each([images], None if proposals is None else [proposals]))
        return list(self.each(images, proposals))

    def each(
        self,
        images: str | os.PathLike | Iterable[Image],
        proposals: Iterable | None = None,
        broken: Callable[[Image, ImageError], None] | None = None,
    ) -> Iterator[Detections]:
        """`Detections` of a folder's or a sequence's images, one after another, `batch` in memory at a time.

        With `broken`, an image that cannot be read or used is left out, and broken(image, error) called.
        """
        _check_no_text(proposals)
        if isinstance(images, str | os.PathLike):
            images = listed_images([images])
        elif not isinstance(images, Iterable):
            raise TypeError(f'expected a folder or a sequence of images; got {type(images).__name__}')
        waiting: list[tuple[np.ndarray, np.ndarray | None, str | None]] = []
        of_images = iter(proposals) if proposals is not None else None
        for image in images:
            boxes = None if of_images is None else next(of_images, None)
            if of_images is not None and boxes is None:
                raise ValueError('there are more images than proposals=: expected an array (R, 4) for each image')
            try:
                waiting.append(self._prepared(image, boxes))
            except ImageError as error:
                if broken is None:
                    raise
                broken(image, error)
            if len(waiting) == self.batch:
                yield from self._detected(waiting)
                waiting = []
        if of_images is not None and next(of_images, None) is not None:
            raise ValueError('there are more proposals= than images: expected an array (R, 4) for each image')
        yield from self._detected(waiting)

    def _prepared(self, image: Image, boxes) -> tuple[np.ndarray, np.ndarray | None, str | None]:
        """The pixels, the proposals and the path of an image. Raises as `__call__`."""
        path = None if isinstance(image, np.ndarray) else _path(image)
        pixels = read_image(path) if path is not None else _checked(np.asarray(image))
        damage = None if path is None else cut_off(path)
        if damage is not None:
            warnings.warn(f'damaged, partly grey: {path} ({damage})', DamagedImage, stacklevel=2)
        for size in self.settings.TEST.SCALES:
            try:
                image_scale(pixels.shape[0], pixels.shape[1], size, self.settings.TEST.MAX_SIZE)
            except ImageError as error:
                raise ImageError(f'{"the image" if path is None else path}: {error}') from None
        if self.proposes:
            if boxes is not None:
                raise ValueError('this net proposes boxes by itself: give no proposals=')
            return pixels, None, path
        if boxes is None:
            method, width = method_for(self.proposals, pixels.shape[1])
            name = '' if path is None else os.path.basename(path)
            return pixels, propose(pixels, method, name, self.settings.RNG_SEED, resize_to=width), path
        _check_no_text(boxes)
        boxes = np.asarray(boxes, np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
            raise ValueError(
                f'proposals= has shape {boxes.shape}; expected (R, 4), finite x1, y1, x2, y2 of each of R boxes'
            )
        return pixels, boxes, path

    def _detected(self, waiting: list[tuple[np.ndarray, np.ndarray | None, str | None]]) -> Iterator[Detections]:
        """What is found in prepared images; those of one shape share a forward pass."""
        by_shape: dict[tuple, list[int]] = {}
        for i, (pixels, _, _) in enumerate(waiting):
            by_shape.setdefault(pixels.shape, []).append(i)
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for group in by_shape.values():
            images = [waiting[i][0] for i in group]
            boxes = [proposed for proposed in (waiting[i][1] for i in group) if proposed is not None]
            try:
                with self._lock:
                    results = im_detect_batch(self.net, images, None if self.proposes else boxes, self.settings)
            except ValueError as error:
                self._blame_narrowness(waiting[group[0]], error)
                raise
            found.update(zip(group, results, strict=True))
        for i, (pixels, _, path) in enumerate(waiting):
            per_class = detections(*found[i], self.max_per_image, self.thresh, self.settings)
            yield Detections(per_class, self.classes, (pixels.shape[1], pixels.shape[0]), path)

    def _blame_narrowness(self, prepared: tuple[np.ndarray, np.ndarray | None, str | None], error: Exception) -> None:
        """Raises ImageError in place of a layer's error where the image is so narrow that no pixels were left to it."""
        pixels, _, path = prepared
        test = self.settings.TEST
        height, width = pixels.shape[:2]
        scale = min(image_scale(height, width, size, test.MAX_SIZE) for size in test.SCALES)
        if min(height, width) * scale < _NARROW:
            raise ImageError(
                f'{path or "the image"}: {width} x {height} pixels, scaled to {width * scale:.0f} x '
                f'{height * scale:.0f}, are too narrow for the net'
            ) from error


def _prototxts_beside(caffemodel: str) -> list[str]:
    """Where the test prototxt of weights may be, the likeliest first."""
    folder, name = os.path.split(caffemodel)
    stem = name.removesuffix('.h5').removesuffix('.caffemodel')
    return [os.path.join(folder, each) for each in (f'{stem}.prototxt', 'test.prototxt', 'deploy.prototxt')]


def _prototxt_beside(caffemodel: str) -> str | None:
    return next((path for path in _prototxts_beside(caffemodel) if os.path.isfile(path)), None)


def _net_within(card: ModelCard | None, caffemodel: str) -> str:
    """The prototxt that weights bring along. Raises FileNotFoundError for none, ModelCardError for one not to be run.

    Weights come from anywhere, and who loads them expects numbers. So the net among them may not name Python code but
    ours, nor layers that read or write files.
    """
    give = "give that of the test net, prototxt='models/.../test.prototxt'"
    if card is None or not card.net:
        raise FileNotFoundError(
            f'{caffemodel} brings no test net along, and there is no prototxt beside it (looked for '
            f'{", ".join(_prototxts_beside(caffemodel))}): {give}'
        )
    net = caffe_pb2.NetParameter()
    try:
        text_format.Parse(rewrite(card.net, lacking()), net)
    except text_format.ParseError as error:
        raise ModelCardError(
            f'{caffemodel}: the test net that it brings along is no prototxt ({error}): {give}'
        ) from None
    for layer in net.layer:
        known = (layer.python_param.module, layer.python_param.layer) in _PYTHON_LAYERS
        if layer.type in _OF_FILES or (layer.type == 'Python' and not known):
            what = (
                f'Python {layer.python_param.module}.{layer.python_param.layer}'
                if layer.type == 'Python'
                else layer.type
            )
            raise ModelCardError(
                f'{caffemodel}: the test net that it brings along has a layer {layer.name} of type {what}, which is '
                f'not run unasked. If you trust it, {give}'
            )
    if net.layers:
        raise ModelCardError(f'{caffemodel}: the test net that it brings along has layers of the old form: {give}')
    return card.net


def _is_a(kind: type, value: object) -> bool:
    return isinstance(value, kind)


def _check_no_text(proposals) -> None:
    if isinstance(proposals, str):
        raise ValueError(
            f'proposals={proposals!r}: the boxes themselves are expected here, an array (R, 4). The name of a method '
            f'is for Detector.load(..., proposals=...), one of auto, {", ".join(METHODS)}'
        )


def _is_one(images) -> TypeGuard[Image]:
    """Whether that is one image, or at least no folder and no sequence of them."""
    if isinstance(images, str | os.PathLike):
        return not os.path.isdir(images)
    return isinstance(images, np.ndarray) or not isinstance(images, Iterable)


def _path(image) -> str:
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    hint = ': of a PIL image, numpy.asarray(image.convert("RGB"))[:, :, ::-1]' if hasattr(image, 'convert') else ''
    raise TypeError(f'an image is a path or a NumPy array (H, W, 3), uint8, BGR; got {type(image).__name__}{hint}')


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        grey = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1)
        hint = ': of a grey one, cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)' if grey else ''
        raise ValueError(
            f'an image is an array (H, W, 3), uint8, BGR as cv2.imread gives it; got {image.dtype} {image.shape}{hint}'
        )
    return np.ascontiguousarray(image)
