"""Data: labelled images from an LMDB of Datum messages, as convert_imageset writes it (data_layer.cpp)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import numpy as np

from caffe.blob import Blob
from caffe.files.lmdb_file import LmdbError, LmdbFile
from caffe.image_content import decoded
from caffe.layer import Layer, LayerError, register
from caffe.layers.prefetch import Prefetch
from caffe.layers.sharing import share_of
from caffe.layers.transformer import ImageTransformer, draw, own_generator, stacked, write_batch
from caffe.proto import caffe_pb2


def datum_image(datum: caffe_pb2.Datum, force_color: bool = False, force_gray: bool = False) -> np.ndarray:
    """The (C, H, W) image of a Datum: uint8 if raw or an encoded file, float32 if float_data."""
    if datum.encoded:
        import cv2  # here, as in caffe.io

        flag = cv2.IMREAD_COLOR if force_color else cv2.IMREAD_GRAYSCALE if force_gray else cv2.IMREAD_UNCHANGED
        image = decoded(datum.data, flag)
        if image is None:
            raise LayerError('Could not decode datum: OpenCV reads no image in it')
        return image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)
    shape = datum.channels, datum.height, datum.width
    pixels = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
    if min(shape) < 0 or pixels.size != np.prod(shape):
        raise LayerError(f'Incorrect data field size: {pixels.size} numbers for a datum of shape {shape}')
    return pixels.reshape(shape)


@register('Data')
class Data(Layer):
    """Batches of the records of an LMDB in the order of their keys, over and over.

    Tops: data (N, C, H, W) and perhaps label (N). In TRAIN several solvers share the records out. A background
    thread reads data_param.prefetch batches ahead.
    """

    param_field = 'data_param'
    num_bottom = 0
    num_top = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.param
        if param.backend != type(param).LMDB:
            raise LayerError(
                'data_param has backend LEVELDB (the default), which is not read here: '
                'convert the data set to LMDB and write data_param { backend: LMDB }'
            )
        if param.batch_size == 0:
            raise LayerError('Positive batch size required')
        if param.prefetch == 0:
            raise LayerError('data_param { prefetch } must be positive')
        images = _Images(param, self.layer_param.transform_param, train=self.phase == 0)
        top[0].reshape(param.batch_size, *images.peek().shape)
        if len(top) > 1:
            top[1].reshape(param.batch_size)
        self._batches = Prefetch(images.batch, param.prefetch)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        write_batch(top, self._batches.next())


class _Images:
    """The images of an LMDB, batch after batch, over and over. It runs in a thread: the layer is not held."""

    def __init__(self, param, transform_param, train: bool):
        self.param = param
        self.transform_param = transform_param
        generator = own_generator()
        self.transform = ImageTransformer(transform_param, train, generator)
        share = share_of(train)
        self.records: Iterator[tuple[bytes, bytes]] = itertools.islice(
            _records(param.source), share.first, None, share.step
        )
        for _ in range(draw(param.rand_skip, generator) if param.rand_skip else 0):
            next(self.records)

    def peek(self) -> np.ndarray:
        """The first image, which comes again with its batch."""
        first = next(self.records)
        self.records = itertools.chain([first], self.records)
        return self._image(*first)[0]

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """The next data (N, C, H, W) and labels (N)."""
        return stacked([self._image(*next(self.records)) for _ in range(self.param.batch_size)])

    def _image(self, key: bytes, value: bytes) -> tuple[np.ndarray, int, str]:
        name = f'record {key.decode(errors="replace")!r} of {self.param.source}'
        transform = self.transform_param
        try:
            datum = caffe_pb2.Datum.FromString(value)
            image = datum_image(datum, transform.force_color or self.param.force_encoded_color, transform.force_gray)
        except Exception as error:
            raise LayerError(f'{name} is no readable Datum: {error}') from error
        return self.transform(image), datum.label, name


def _records(source: str) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of all records of an LMDB, in the order of the keys, without end."""
    if not os.path.exists(source):
        raise LayerError(f'data_param names the database {source!r}, which is not there')
    try:
        database = LmdbFile(source)
        if not len(database):
            raise LayerError(f'{source} has no records')
        while True:
            yield from database.records()
    except LmdbError as error:
        raise LayerError(str(error)) from None
    except OSError as error:
        raise LayerError(f'{source} is no LMDB that can be read: {error}') from None
