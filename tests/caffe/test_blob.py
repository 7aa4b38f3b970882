"""Blob: live NumPy views, shapes, and which copy is the newest when the device has a memory of its own."""

import numpy as np
import pytest
import torch

from caffe.blob import Blob
from caffe.kernels.deferred import Rows
from caffe.process import device


@pytest.fixture
def simulated_gpu():
    device.simulate_gpu()
    device.set_mode_gpu()
    yield
    device.simulate_gpu(False)


def test_a_new_blob_is_zero():
    blob = Blob(2, 3)
    assert blob.data.shape == (2, 3)
    assert blob.data.dtype == np.float32
    assert not blob.data.any()
    assert not blob.diff.any()


def test_legacy_axes():
    blob = Blob(2, 3)
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 1, 1, 6)
    with pytest.raises(ValueError, match='at most 4 axes'):
        _ = Blob(1, 1, 1, 1, 1).num


def test_views_stay_live_when_a_layer_writes():
    blob = Blob(4)
    view = blob.data
    part = blob.data[1:3]
    blob.write(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(view, [1, 2, 3, 4])
    np.testing.assert_array_equal(part, [2, 3])
    view[0] = 9
    assert blob.read()[0] == 9


def test_without_viewers_writing_copies_nothing():
    blob = Blob(4)
    blob.data[...] = 1
    tensor = torch.arange(4.0)
    blob.write(tensor)
    assert blob.read().data_ptr() == tensor.data_ptr()


def test_clearing_a_diff_is_seen_by_viewers():
    blob = Blob(3)
    view = blob.diff
    blob.add_diff(torch.ones(3))
    blob.add_diff(torch.ones(3))
    np.testing.assert_array_equal(view, [2, 2, 2])
    blob.clear_diff()
    np.testing.assert_array_equal(view, [0, 0, 0])


def test_reshape_keeps_what_fits():
    blob = Blob(4)
    blob.data[...] = [1, 2, 3, 4]
    blob.reshape(1, 2)
    np.testing.assert_array_equal(blob.data, [[1, 2]])
    blob.reshape([4])
    np.testing.assert_array_equal(blob.data, [1, 2, 3, 4])
    blob.reshape(0, 7)
    assert blob.data.shape == (0, 7)
    blob.reshape(2, 4)
    assert blob.data.shape == (2, 4)


def test_reshape_refuses_negative_axes():
    with pytest.raises(ValueError, match='none of them negative'):
        Blob(1).reshape(2, -1)


def test_assigning_the_array_is_explained():
    with pytest.raises(AttributeError, match=r'blob\.data\[\.\.\.\] = value'):
        Blob(1).data = np.zeros(1)


def test_shared_data_is_one_memory():
    a, b = Blob(2, 3), Blob(6)
    b.share_data(a)
    a.data[...] = 5
    assert (b.data == 5).all()
    b.write(torch.ones(6))
    assert (a.data == 1).all()
    with pytest.raises(ValueError, match='as many elements'):
        Blob(5).share_data(a)


def test_the_array_outlives_its_blob():
    array = Blob(3).data
    array += 1
    np.testing.assert_array_equal(array, [1, 1, 1])


@pytest.mark.usefixtures('simulated_gpu')
class TestOnADevice:
    def test_a_host_value_is_sent_once(self):
        blob = Blob(3)
        blob.data[...] = 2
        assert blob.read().tolist() == [2, 2, 2]
        blob.read()
        assert device.transfers() == (0, 1)

    def test_a_device_value_is_fetched_when_looked_at(self):
        blob = Blob(3)
        blob.write(torch.ones(3))
        assert device.transfers() == (0, 0)
        assert blob.data.tolist() == [1, 1, 1]
        assert device.transfers() == (1, 0)

    def test_looking_at_data_makes_the_host_newest(self):
        blob = Blob(3)
        blob.write(torch.ones(3))
        blob.data[0] = 7
        assert blob.read().tolist() == [7, 1, 1]

    def test_writing_on_the_device_does_not_touch_the_host(self):
        blob = Blob(3)
        view = blob.data
        blob.write(torch.ones(3))
        assert view.tolist() == [0, 0, 0]  # stale, as in Caffe, until .data is read again
        assert blob.data.tolist() == [1, 1, 1]
        assert view.tolist() == [1, 1, 1]

    def test_back_to_cpu_mode_the_values_come_along(self):
        blob = Blob(3)
        blob.write(torch.full((3,), 4.0))
        device.set_mode_cpu()
        assert blob.read().tolist() == [4, 4, 4]


def test_gpu_mode_without_a_gpu_is_refused():
    if torch.cuda.is_available():
        pytest.skip('this machine has a GPU')
    with pytest.raises(RuntimeError, match='no CUDA GPU') as error:
        device.set_mode_gpu()
    assert '--gpu' not in str(error.value)  # the caller's program may have no such flag


def test_rows_that_repeat_are_laid_out_when_read():
    blob = Blob(3, 2)
    block = torch.tensor([[1.0], [3.0]])

    def visit_blocks(visit):
        visit(slice(0, 1), block)
        visit(slice(1, 2), block + 1)

    rows = Rows(visit_blocks, (2, 2), torch.tensor([1, 0, 1]))
    blob.write_rows(rows)
    assert blob.rows is rows
    np.testing.assert_array_equal(blob.data, [[3, 4], [1, 2], [3, 4]])
    assert blob.rows is None  # a viewer may have changed a row
    blob.write_rows(rows)
    blob.write(torch.zeros(3, 2))
    assert blob.rows is None
    with pytest.raises(ValueError, match='2 rows'):
        blob.write_rows(Rows(visit_blocks, (2, 2), torch.tensor([1, 0])))


def test_a_held_view_sees_rows_that_repeat():
    blob = Blob(2, 1)
    view = blob.data
    blob.write_rows(Rows(lambda visit: visit(slice(0, 1), torch.tensor([[7.0]])), (1, 1), torch.tensor([0, 0])))
    np.testing.assert_array_equal(view, [[7], [7]])


def test_memory_to_be_overwritten_is_reused_and_seen():
    blob = Blob(4)
    view = blob.diff
    memory = blob.diff_memory_to_fill()
    memory[...] = 5
    assert (view == 5).all()
    blob.clear_diff()
    assert blob.diff_memory_to_fill().data_ptr() == memory.data_ptr()


def test_what_was_computed_in_that_memory_is_written_without_moving():
    blob = Blob(2, 3)
    view = blob.data
    memory = blob.memory_to_fill()
    blob.write(memory.fill_(5).view(3, 2))
    assert blob.read().data_ptr() == memory.data_ptr()
    assert (view == 5).all()
    view[0, 0] = 7
    assert blob.read()[0, 0] == 7


def test_memory_of_a_larger_blob_stays_when_less_is_written_into_it():
    blob = Blob(6)
    memory = blob.memory_to_fill()
    blob.reshape(4)
    blob.write(blob.memory_to_fill().fill_(1))
    blob.reshape(6)
    assert blob.memory_to_fill().data_ptr() == memory.data_ptr()
