"""What a model says of itself, inside the weights' file: class names in order, data set, settings, its test net.

In a .caffemodel it is one more field of NetParameter, behind the others, of a number that no Caffe uses: a message of
protobuf may be added to by adding to its end, and readers pass over fields that they do not know. In HDF5 it is a
data set beside the group of the weights. So BVLC Caffe reads these files as it reads its own.
"""

import contextlib
import dataclasses
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import whole_file
from detection_data.imdb import imdb as Imdb
from fast_rcnn.config import cfg

_FIELD = 50407  # of NetParameter; Caffe's end at 100
_DATASET = 'model_card'
_FORM = 'fast-rcnn-ohem model card'
_MOST = 2**22  # bytes of a card: thousands of class names have room
_MOST_OF_NET = 2**20  # characters of a prototxt
_LAYERS = {2, 100}  # fields of NetParameter: of the old form, and of today's
_HDF5 = b'\x89HDF\r\n\x1a\n'
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class ModelCardError(ValueError):
    """A card that cannot be read, or that does not fit the data set."""


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What is known of a trained detector."""

    classes: tuple[str, ...]
    """Names in the order of the net's scores; the first is the background."""
    dataset: str = ''
    """The name of the set that it was trained on."""
    settings: dict = dataclasses.field(default_factory=dict)
    """What detection needs of cfg: PIXEL_MEANS, DEDUP_BOXES and all of TEST, as plain numbers, texts and lists."""
    validation: dict = dataclasses.field(default_factory=dict)
    """Of the best model of a training: imdb, iteration and mAP, by which it is the best (see `validation`)."""
    net: str = ''
    """The prototxt of the test net, as it was when training began; '' where it is not known."""
    scale_batch: int = 1
    """How many ranks made a whole mini-batch each of an iteration (--scale_batch); 1 where they divided one."""
    training: dict = dataclasses.field(default_factory=dict)
    """Of weights to resume from: the settings that training's result depends on, 'TRAIN.BATCH_SIZE' -> value."""

    @classmethod
    def of_training(
        cls, classes: Sequence[str], dataset: str, validation: dict | None = None, net: str = '', scale_batch: int = 1
    ) -> 'ModelCard':
        """The card of a model that is trained now, by softmax, with the settings of `cfg`."""
        settings = _plain({key: cfg[key] for key in ('PIXEL_MEANS', 'DEDUP_BOXES', 'TEST')})
        settings['TEST']['SVM'] = False
        return cls(tuple(classes), dataset, settings, dict(validation or {}), net, scale_batch)

    def to_resume(self) -> 'ModelCard':
        """The same for weights to resume from: with the settings of `cfg` that training goes by."""
        return dataclasses.replace(self, training=training_settings())

    @property
    def svm(self) -> bool | None:
        """Whether it scores by SVMs (its TEST.SVM); None where that is not known."""
        return self._test.get('SVM')

    def of_svms(self) -> 'ModelCard':
        """The card of the same net with SVMs in place of its classifier."""
        settings = {**self.settings, 'TEST': {**self._test, 'SVM': True}}
        return dataclasses.replace(self.remade(self.net), settings=settings)

    def remade(self, net: str) -> 'ModelCard':
        """The card of a net, of the prototxt `net`, that was made of this one: what was measured is not true of it."""
        return dataclasses.replace(self, validation={}, net=net, training={})

    @property
    def _test(self) -> dict:
        test = self.settings.get('TEST')
        return test if isinstance(test, dict) else {}


def add_card(path: str, card: ModelCard) -> None:
    """Puts the card into a .caffemodel or .caffemodel.h5 file that has none yet.

    If it cannot be written whole, the file is again what it was. Raises OSError.
    """
    usual = {'validation': {}, 'scale_batch': 1, 'training': {}}
    content = {key: value for key, value in dataclasses.asdict(card).items() if usual.get(key) != value}
    text = json.dumps({'form': _FORM, 'version': 1, **content}).encode()
    with open(path, 'rb') as file:
        is_hdf5 = file.read(len(_HDF5)) == _HDF5
    if is_hdf5:
        _add_to_hdf5(path, text)
        return
    with contextlib.closing(whole_file.GrowingFile(path)) as file:
        file.add(_varint(_FIELD << 3 | _BYTES) + _varint(len(text)) + text)


def read_card(path: str) -> ModelCard | None:
    """The card in a weights' file; None where there is none, as in files that other programs wrote.

    Only the lengths of layers are looked at, not what they hold. Raises ModelCardError for a damaged card, OSError
    for a file that cannot be opened.
    """
    with open(path, 'rb') as file:
        if file.read(len(_HDF5)) == _HDF5:
            text = _read_from_hdf5(path)
        else:
            text = None
            for number, length in _fields(file, os.fstat(file.fileno()).st_size):
                if number == _FIELD:
                    text = file.read(min(length, _MOST + 1))
    if text is None:
        return None
    try:
        return _parsed(text)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelCardError(
            f'{path}: what the file says of its class names is damaged ({type(error).__name__}: {error}); copy it again'
        ) from None


def check_is_model(path: str) -> None:
    """Raises ValueError unless `path` looks like a file of weights: what is in its layers is for Caffe to look at."""
    with open(path, 'rb') as file:
        head = file.read(512)
        if head.startswith(_HDF5) or _LAYERS & {n for n, _ in _fields(file, os.fstat(file.fileno()).st_size)}:
            return
    binary = any(byte < 9 or 13 < byte < 32 for byte in head)
    what = ', or one that is cut short: copy it again' if binary else ', but text' if head else ': the file is empty'
    raise ValueError(f'{path}: not a .caffemodel{what}')


def test_net_beside(train_net: str) -> str:
    """The text of the test net that belongs to a train net, test.prototxt beside train.prototxt; '' if none does."""
    folder, name = os.path.split(train_net)
    path = os.path.join(folder, name.replace('train', 'test'))
    if 'train' not in name or not os.path.isfile(path) or os.path.getsize(path) > _MOST_OF_NET:
        return ''
    with open(path, encoding='utf-8', errors='replace') as file:
        return file.read()


def read_card_of_state(path: str) -> ModelCard | None:
    """The card of the weights that were written with a .solverstate or .solverstate.h5 file; None without any."""
    weights = path.replace('.solverstate', '.caffemodel')
    return read_card(weights) if os.path.isfile(weights) else None


def match_classes(imdb: Imdb, card: ModelCard | None, path: str) -> None:
    """Has the data set number its classes as the model in `path` does, and says so where that is a change.

    Without a card nothing is known and nothing done. Raises ModelCardError, with both lists, unless the names are
    the same.
    """
    if card is None or tuple(imdb.classes) == card.classes:
        return
    if sorted(imdb.classes) != sorted(card.classes):
        raise ModelCardError(
            f'{path} was trained on {card.dataset or "a data set"} for other classes than those of {imdb.name}. '
            f'The model: {_listed(card.classes)}. The data set: {_listed(imdb.classes)}. '
            f'Only the model has: {_listed(card.classes, imdb.classes)}. '
            f'Only the data set has: {_listed(imdb.classes, card.classes)}'
        )
    print(
        f'{imdb.name} lists its classes in another order than {path}: those of the model are used, '
        f'{_listed(card.classes)}'
    )
    imdb.set_class_order(card.classes)


def class_names(card: ModelCard | None, path: str, listed: Sequence[str] | None = None) -> list[str] | None:
    """The names of a model's classes, without the background: those of its card, else those `listed` by the user.

    Of names listed in another order a line is printed. None where neither is there. Raises ModelCardError, with both
    lists, for other names.
    """
    if card is None:
        return None if listed is None else list(listed)
    names = list(card.classes[1:])
    if listed is not None and sorted(listed) != sorted(names):
        raise ModelCardError(
            f'{path} knows the classes {_listed(names)}; the names given are others: {_listed(listed)}. '
            'Give none: the model brings its names along'
        )
    if listed is not None and list(listed) != names:
        print(f'The names given are in another order than in {path}: those of the model are used')
    return names


def follow_classifier(card: ModelCard | None, path: str) -> None:
    """Sets cfg.TEST.SVM for a model of SVMs, and says so; notes it where SVM scores are asked of another model."""
    svm = None if card is None else card.svm
    if svm is True and not cfg.TEST.SVM:
        cfg.TEST.SVM = True
        print(f'{path} scores by SVMs: TEST.SVM is True for it')
    elif svm is False and cfg.TEST.SVM:
        print(
            f'Note: {path} was trained by softmax, and TEST.SVM is True: its scores before the softmax are taken. '
            'tools/train_svms.py trains SVMs'
        )


def note_other_settings(card: ModelCard | None, path: str, settings: Any = cfg) -> None:
    """Prints a line for each of `settings` that decides what the net sees and that is not as it was in training."""
    if card is None:
        return
    test = settings.TEST
    now = _plain({'PIXEL_MEANS': settings.PIXEL_MEANS, 'TEST.SCALES': test.SCALES, 'TEST.MAX_SIZE': test.MAX_SIZE})
    for key, value in now.items():
        stored = card.settings
        for part in key.split('.'):
            stored = stored.get(part, {}) if isinstance(stored, dict) else {}
        if stored not in ({}, value):
            print(f'Note: {path} was trained where {key} was {stored}; it is {value} now')


def training_settings() -> dict:
    """The settings of `cfg` that decide what training comes to, 'TRAIN.BATCH_SIZE' -> value."""
    # the others decide when what is written, and by which processes
    others = re.compile('SNAPSHOT|VAL_ITERS|EARLY_STOP_ITERS|USE_PREFETCH|PREFETCH_WORKERS|FROZEN_CACHE')
    of_training = {key: value for key, value in cfg.TRAIN.items() if not others.match(key)}
    augment = of_training.pop('AUGMENT')
    flat = {f'TRAIN.{key}': value for key, value in of_training.items()}
    flat |= {f'TRAIN.AUGMENT.{key}': value for key, value in augment.items()}
    flat |= {'PIXEL_MEANS': cfg.PIXEL_MEANS, 'PRECISION': cfg.PRECISION, 'RNG_SEED': cfg.RNG_SEED}
    return _plain(flat)


def note_other_training(card: ModelCard | None, path: str, dataset: str) -> None:
    """Prints a line that says in what a training, of the settings of `cfg`, differs from the one that it resumes.

    path: of the state; dataset: the name of the training set, '' if it has none.
    """
    if card is None:
        return
    differs = (
        [f'the data set is {dataset}, not {card.dataset}'] if dataset and card.dataset not in ('', dataset) else []
    )
    now = training_settings()
    differs += [f'{key} is {now[key]}, not {then}' for key, then in card.training.items() if now.get(key, then) != then]
    if differs:
        print(f'Note: this is not the training of {path} any more: {"; ".join(differs)}')


def _listed(names: Sequence[str], but: Sequence[str] = ()) -> str:
    return ', '.join(name for name in names if name not in but and name != '__background__') or 'none'


def _plain(value):
    """Settings as JSON has them."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def _parsed(text: bytes) -> ModelCard:
    if len(text) > _MOST:
        raise ValueError(f'more than {_MOST} bytes')
    stored = json.loads(text)
    classes, settings, validation = stored['classes'], stored.get('settings', {}), stored.get('validation', {})
    training = stored.get('training', {})
    if stored['form'] != _FORM or not all(isinstance(part, dict) for part in (settings, validation, training)):
        raise ValueError('not of the form of a card')
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        raise ValueError('no list of class names')
    if len(set(classes)) < len(classes):
        raise ValueError('a class is named twice')
    scale = stored.get('scale_batch', 1)
    if type(scale) is not int or scale < 1:
        raise ValueError(f'scale_batch is {scale!r}')
    net = str(stored.get('net', ''))
    return ModelCard(tuple(classes), str(stored.get('dataset', '')), settings, validation, net, scale, training)


# ---- protobuf's wire format, as much of it as finding a field takes (protobuf.dev, "Encoding")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _read_varint(file) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise EOFError


def _fields(file, size: int) -> Iterator[tuple[int, int]]:
    """(number, length) of each field of bytes in a message, with the file at its first byte.

    Ends where the file is no message any more: that is for Caffe to complain of.
    """
    file.seek(0)
    try:
        while file.tell() < size:
            number, kind = divmod(_read_varint(file), 8)
            length = {_FIXED64: 8, _FIXED32: 4, _BYTES: 0, _VARINT: 0}[kind]
            if kind == _VARINT:
                _read_varint(file)
            elif kind == _BYTES:
                length = _read_varint(file)
            start = file.tell()
            if start + length > size:
                return
            if kind == _BYTES:
                yield number, length
            file.seek(start + length)
    except (EOFError, KeyError):
        return


# ---- HDF5


def _add_to_hdf5(path: str, text: bytes) -> None:
    """In memory, then in place of the file: HDF5 itself would leave half a file where the disk is full."""
    import h5py

    with open(path, 'rb') as file:
        image = io.BytesIO(file.read())
    with h5py.File(image, 'r+') as file:
        file.create_dataset(_DATASET, data=np.frombuffer(text, np.uint8))
    whole_file.write(path, image.getbuffer())


def _read_from_hdf5(path: str) -> bytes | None:
    import h5py

    try:
        with h5py.File(path, 'r') as file:
            if _DATASET not in file:
                return None
            return np.asarray(file[_DATASET][: _MOST + 1]).astype(np.uint8).tobytes()
    except Exception as error:  # h5py raises errors of many types, depending on what is damaged
        raise ModelCardError(f'{path}: a damaged HDF5 file: copy it again ({error})') from None
