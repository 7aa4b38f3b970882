"""Mini-batches from worker processes: what is sent is received, once; what cannot be received is made anew."""

import os

import numpy as np
import pytest

from roi_data_layer import passing
from roi_data_layer.passing import Passed, Sender, receive
from roi_data_layer.worker_pool import WorkerPool

ARRAYS = {
    'data': np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4),
    'nothing': np.zeros((0, 5), np.float32),
    'columns': np.arange(12, dtype=np.int64).reshape(3, 4)[:, 1:3],
    'flag': np.array([True]),
}
on_linux = pytest.mark.skipif(not hasattr(os, 'memfd_create'), reason='only Linux has such memory')


def assert_same(got):
    assert got.keys() == ARRAYS.keys()
    for key, array in ARRAYS.items():
        assert got[key].dtype == array.dtype
        np.testing.assert_array_equal(got[key], array)


_sender = Sender(2)


def send():
    return _sender.send(ARRAYS)


def test_arrays_come_from_another_process():
    with WorkerPool(1) as pool:
        for _ in range(5):
            assert_same(receive(pool.submit(send).result()))


@on_linux
def test_their_memory_is_free_once_they_are_received():
    sent = Sender(1).send(ARRAYS)
    assert isinstance(sent, Passed)
    assert os.stat(f'/proc/self/fd/{sent.file}').st_size == sum(array.nbytes for array in ARRAYS.values())
    receive(sent)
    assert os.stat(f'/proc/self/fd/{sent.file}').st_size == 0
    with pytest.raises(OSError, match='ends too early'):
        receive(sent)


@on_linux
def test_what_is_no_longer_kept_is_not_taken_for_another():
    sender = Sender(1)
    first = sender.send(ARRAYS)
    second = sender.send(ARRAYS)
    with pytest.raises(OSError):
        receive(first)
    with pytest.raises(OSError, match='too late'):
        receive(second._replace(name='mini-batch 7'))
    assert_same(receive(second))


def test_where_there_is_no_such_memory_they_are_sent_as_they_are(monkeypatch):
    monkeypatch.delattr(os, 'memfd_create', raising=False)
    assert_same(receive(Sender(1).send(ARRAYS)))


@on_linux
def test_where_it_is_full_they_are_sent_as_they_are(monkeypatch):
    def full(file, array):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(passing, '_write', full)
    assert_same(receive(Sender(1).send(ARRAYS)))
