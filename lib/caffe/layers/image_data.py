"""ImageData: labelled image files from a list (image_data_layer.cpp)."""

from __future__ import annotations

import os

import numpy as np
import torch

from caffe.blob import Blob
from caffe.layer import Layer, LayerError, register
from caffe.layers.image_file import read_image
from caffe.layers.prefetch import AHEAD, Prefetch
from caffe.layers.sharing import order_generator, share_of
from caffe.layers.transformer import ImageTransformer, draw, own_generator, stacked, write_batch


@register('ImageData')
class ImageData(Layer):
    """Batches of the images that image_data_param.source lists: a path and a label, a whole number, a line.

    Tops: data (N, C, H, W) and label (N). In TRAIN several solvers share the images out, as those of Caffe's threads
    did; its processes show all to each. A background thread reads the images ahead.
    """

    param_field = 'image_data_param'
    num_bottom = 0
    num_top = 2

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.param
        if (param.new_height > 0) != (param.new_width > 0):
            raise LayerError('Current implementation requires new_height and new_width to be set at the same time.')
        if param.batch_size == 0:
            raise LayerError('Positive batch size required')
        images = _Images(param, self.layer_param.transform_param, train=self.phase == 0)
        image = images.peek()
        top[0].reshape(param.batch_size, *image.shape)
        top[1].reshape(param.batch_size)
        self._batches = Prefetch(images.batch, AHEAD)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        write_batch(top, self._batches.next())


class _Images:
    """The images of a list, batch after batch, over and over. It runs in a thread: the layer is not held."""

    def __init__(self, param, transform_param, train: bool):
        self.param = param
        self.size = (param.new_height, param.new_width) if param.new_height else None
        share = share_of(train)
        self.step = share.step
        self.generator = order_generator(share)
        drawn = self.generator if share.step == 1 else own_generator()  # alone: one stream for all, as in Caffe
        self.transform = ImageTransformer(transform_param, train, drawn)
        self.lines = self._read_list(param.source)
        self._shuffle()
        self.position = 0
        if param.rand_skip:
            self.position = draw(param.rand_skip, self.generator)
            if self.position >= len(self.lines):
                raise LayerError(f'Not enough points to skip {self.position}: {param.source} lists {len(self.lines)}')
        self._advance(share.first)

    def peek(self) -> np.ndarray:
        """The first image, which comes again with its batch."""
        return self.transform(self._read(*self.lines[self.position])[0])

    def _read_list(self, source: str) -> list[tuple[str, int]]:
        if not os.path.isfile(source):
            raise LayerError(f'image_data_param names the list {source!r}, which is not there')
        lines = []
        with open(source, encoding='utf-8', errors='surrogateescape') as file:
            for number, line in enumerate(file, start=1):
                path, _, label = line.strip().rpartition(' ')
                if not line.strip():
                    continue
                try:
                    lines.append((path, int(label)))
                except ValueError:
                    raise LayerError(f'{source}:{number}: expected "path label", got {line.strip()!r}') from None
        if not lines:
            raise LayerError(f'File is empty: {source}')
        return lines

    def _shuffle(self) -> None:
        if self.param.shuffle:
            order = torch.randperm(len(self.lines), generator=self.generator).tolist()
            self.lines = [self.lines[i] for i in order]

    def _read(self, path: str, label: int) -> tuple[np.ndarray, int, str]:
        path = self.param.root_folder + path
        return read_image(path, self.param.is_color, self.size), label, path

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """The next data (N, C, H, W) and labels (N)."""
        items = []
        for _ in range(self.param.batch_size):
            image, label, path = self._read(*self.lines[self.position])
            items.append((self.transform(image), label, path))
            self._advance(self.step)
        return stacked(items)

    def _advance(self, count: int) -> None:
        """Passes over so many lines of the list."""
        for _ in range(count):
            self.position += 1
            if self.position == len(self.lines):
                self.position = 0
                self._shuffle()
