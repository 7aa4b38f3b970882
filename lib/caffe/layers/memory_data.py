"""MemoryData: batches from arrays that the user hands over (memory_data_layer.cpp)."""

from __future__ import annotations

import numpy as np

from caffe.blob import Blob
from caffe.glog import log
from caffe.layer import Layer, LayerError, register


@register('MemoryData')
class MemoryData(Layer):
    """Tops data (N, C, H, W) and label (N), N = batch_size, taken in turn from the arrays of `set_arrays`."""

    param_field = 'memory_data_param'
    num_bottom = 0
    num_top = 2

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.item_shape = (self.param.channels, self.param.height, self.param.width)
        self.batch_size = self.param.batch_size
        if 0 in (self.batch_size, *self.item_shape):
            raise LayerError(
                'batch_size, channels, height, and width must be specified and positive in memory_data_param'
            )
        self.data: np.ndarray | None = None
        self.labels: np.ndarray | None = None
        self.position = 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape(self.batch_size, *self.item_shape)
        top[1].reshape(self.batch_size)

    def set_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Takes (N, C, H, W) data and N labels, as net.set_input_arrays; N a multiple of batch_size.

        Arrays that are float32 and contiguous are not copied: what is written to them later is seen. Raises
        ValueError for other shapes.
        """
        if data.ndim != 4 or data.shape[1:] != self.item_shape or not len(data) or len(data) % self.batch_size:
            raise ValueError(
                f'data must be (N, {", ".join(map(str, self.item_shape))}) with N a multiple of batch size '
                f'{self.batch_size}; got shape {data.shape}'
            )
        if labels.size != len(data) or len(labels) != len(data):
            raise ValueError(f'one label an item is expected: {len(data)} items, labels of shape {labels.shape}')
        if self.layer_param.HasField('transform_param'):
            log(f'{self.type} does not transform array data on Reset()', 'memory_data_layer.cpp:73')
        self.data = np.ascontiguousarray(data, np.float32)
        self.labels = np.ascontiguousarray(labels, np.float32).reshape(-1)
        self.position = 0

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.data is None or self.labels is None:
            raise LayerError('MemoryData has no arrays yet: call net.set_input_arrays(data, labels) first')
        batch = slice(self.position, self.position + self.batch_size)
        top[0].data[...] = self.data[batch]
        top[1].data[...] = self.labels[batch]
        self.position = batch.stop % len(self.data)
