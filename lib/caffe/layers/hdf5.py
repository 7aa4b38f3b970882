"""Layers that read rows from HDF5 files and write them: HDF5Data, HDF5Output."""

from __future__ import annotations

import os

import numpy as np
import torch

import whole_file
from caffe.blob import Blob
from caffe.kernels.host_memory import check_room
from caffe.layer import Layer, LayerError, register
from caffe.layers.prefetch import AHEAD, Prefetch
from caffe.layers.sharing import order_generator, share_of
from caffe.layers.transformer import write_batch


@register('HDF5Data')
class HDF5Data(Layer):
    """Batches of rows from a list of HDF5 files, over and over (hdf5_data_layer.cpp).

    hdf5_data_param.source is a text file with the files' paths. Each file has a dataset for each top, named
    like it, all with as many rows; one file is in memory at a time. shuffle shuffles the files, and the rows
    within each. In TRAIN several solvers share the rows out. A background thread makes batches ahead.
    """

    param_field = 'hdf5_data_param'
    num_bottom = 0
    num_top = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.layer_param.HasField('transform_param'):
            raise LayerError(f'{self.type} does not transform data.')
        if self.param.batch_size == 0:
            raise LayerError('hdf5_data_param { batch_size } must be positive')
        rows = _Rows(self.param, list(self.layer_param.top), train=self.phase == 0)
        for blob, array in zip(top, rows.rows, strict=True):
            blob.reshape(self.param.batch_size, *array.shape[1:])
        self._batches = Prefetch(rows.batch, AHEAD)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        write_batch(top, self._batches.next())


class _Rows:
    """The rows of the files, batch after batch, over and over. It runs in a thread: the layer is not held."""

    def __init__(self, param, names: list[str], train: bool):
        self.param = param
        self.names = names
        share = share_of(train)
        self.others = share.first  # rows, from row_index on, before the next of this solver's
        self.step = share.step
        self.generator = order_generator(share)
        source = param.source
        if not os.path.isfile(source):
            raise LayerError(f'Failed to open source file: {source!r}')
        with open(source, encoding='utf-8', errors='surrogateescape') as file:
            self.files = file.read().split()
        if not self.files:
            raise LayerError(f'Must have at least 1 HDF5 filename listed in {source}')
        self.file_order = self._order(len(self.files))
        self.file_index = 0
        self._load()
        self.shapes = [rows.shape[1:] for rows in self.rows]

    def _order(self, count: int) -> np.ndarray:
        if not self.param.shuffle:
            return np.arange(count)
        return torch.randperm(count, generator=self.generator).numpy()

    def _load(self) -> None:
        """Reads the current file: `rows` has an array for each top."""
        import h5py  # here, as in files.model_file

        path = self.files[self.file_order[self.file_index]]
        names = self.names
        try:
            with h5py.File(path, 'r') as file:
                missing = [name for name in names if name not in file]
                if missing:
                    raise LayerError(f'{path} has no dataset {missing[0]!r}; it has {sorted(file)}')
                self.rows = [_numbers(file[name]) for name in names]
        except LayerError:
            raise
        except Exception as error:  # the library raises errors of many types, depending on what is damaged
            raise LayerError(f'Failed opening HDF5 file: {path}: it is damaged or none: {error}') from error
        for name, rows in zip(names, self.rows, strict=True):
            if rows.ndim < 1 or len(rows) != len(self.rows[0]) or not len(rows):
                raise LayerError(
                    f'{path}: datasets need rows, all as many: {name!r} has shape {rows.shape}, '
                    f'{names[0]!r} has {self.rows[0].shape}'
                )
        self.row_order = self._order(len(self.rows[0]))
        self.row_index = 0

    def _advance(self, count: int) -> None:
        self.row_index += count
        if self.row_index < len(self.row_order):
            return
        if len(self.files) == 1:
            self.row_order = self._order(len(self.row_order))
            self.row_index = 0
            return
        self.file_index += 1
        if self.file_index == len(self.files):
            self.file_order = self._order(len(self.files))
            self.file_index = 0
        self._load()

    def batch(self) -> list[np.ndarray]:
        """The next batch_size rows of each dataset."""
        batch = [np.empty((self.param.batch_size, *shape), np.float32) for shape in self.shapes]
        done = 0
        while done < self.param.batch_size:
            left = self.row_order[self.row_index :]
            chosen = left[self.others :: self.step][: self.param.batch_size - done]
            for array, rows, name in zip(batch, self.rows, self.names, strict=True):
                if rows.shape[1:] != array.shape[1:]:
                    raise LayerError(f'rows of {name!r} have shape {rows.shape[1:]}, those before {array.shape[1:]}')
                array[done : done + len(chosen)] = rows[chosen]
            done += len(chosen)
            following = self.others + len(chosen) * self.step
            past = min(following, len(left))
            self.others = following - past
            self._advance(past)
        return batch


def _numbers(dataset) -> np.ndarray:
    """All of a dataset, as float32; a file that is damaged may speak of more than there can be."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in 'fiub':
        raise LayerError(f'{dataset.file.filename}: {dataset.name} does not hold numbers')
    check_room(dataset.size * max(4, dataset.dtype.itemsize), f'{dataset.file.filename}: {dataset.name}')
    return np.asarray(dataset[()], np.float32)


@register('HDF5Output')
class HDF5Output(Layer):
    """Writes its bottoms as the datasets `data` and `label` of a file (hdf5_output_layer.cpp).

    The file, hdf5_output_param.file_name, is created with the net, in place of an old one. Caffe fails at the second
    forward pass; here its rows follow those before.
    """

    param_field = 'hdf5_output_param'
    num_bottom = 2
    num_top = 0

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if not self.param.file_name:
            raise LayerError('hdf5_output_param { file_name } is missing')
        import h5py

        try:
            with whole_file.in_memory(self.param.file_name) as file:
                h5py.File(file, 'w').close()
        except OSError as error:
            raise LayerError(f'Failed to open HDF5 file {self.param.file_name}: {error}') from error

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].shape[:1] != bottom[1].shape[:1]:
            raise LayerError(f'data and label need as many rows: {bottom[0].shape} and {bottom[1].shape}')

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        path = self.param.file_name
        with open(path, 'rb') as base:
            changed = whole_file.Overlay(base)  # HDF5 itself may crash where the disk is full
            self._add_rows(changed, bottom)
            changed.write_back(path)

    @staticmethod
    def _add_rows(changed: whole_file.Overlay, bottom) -> None:
        import h5py

        with h5py.File(changed, 'r+') as file:
            for name, blob in zip(('data', 'label'), bottom, strict=True):
                rows = blob.read().cpu().numpy()
                if name not in file:
                    file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]))
                    continue
                dataset = file[name]
                dataset.resize(len(dataset) + len(rows), axis=0)
                dataset[len(dataset) - len(rows) :] = rows
