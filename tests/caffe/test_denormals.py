"""Numbers below 1.2e-38 count as zero while a net or a solver computes, in all threads, and not outside."""

import numpy as np
import pytest
import torch

from caffe.process import denormals

pytestmark = pytest.mark.skipif(not torch.set_flush_denormal(False), reason='this processor has no such mode')
SIZE = 512  # large enough for torch to use all its threads


def test_products_that_vanish_are_zero_in_every_thread(threads):
    torch.rand(SIZE, SIZE) @ torch.rand(SIZE, SIZE)  # the threads are there before anybody is told
    a, b = torch.full((SIZE, SIZE), 1e-20), torch.full((SIZE, SIZE), 1e-20)
    assert (a.numpy() * b.numpy() > 0).all()
    assert denormals.denormals_as_zero(torch.mul)(a, b).count_nonzero() == 0


def test_a_net_computes_so_and_leaves_the_thread_as_it_was(tmp_path):
    import caffe

    path = tmp_path / 'net.prototxt'
    path.write_text("""
        force_backward: true
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
        layer { name: "y" type: "Power" bottom: "x" top: "y" power_param { scale: 1e-20 } }""")
    net = caffe.Net(str(path), caffe.TRAIN)
    net.blobs['x'].data[...] = [1e-20, 1]
    np.testing.assert_array_equal(net.forward()['y'], np.float32([0, 1e-20]))
    net.blobs['y'].diff[...] = [1, 1e-20]
    np.testing.assert_array_equal(net.backward()['x'], np.float32([1e-20, 0]))
    assert float(np.float32(1e-20) * np.float32(1e-20)) > 0
    assert not denormals.count_as_zero()


def test_an_error_leaves_the_thread_as_it_was():
    def fail():
        assert denormals.count_as_zero()
        raise KeyError

    with pytest.raises(KeyError):
        denormals.denormals_as_zero(fail)()
    assert not denormals.count_as_zero()


def test_who_has_them_as_zero_keeps_them_so():
    torch.set_flush_denormal(True)
    try:
        denormals.denormals_as_zero(lambda: None)()
        assert denormals.count_as_zero()
    finally:
        torch.set_flush_denormal(False)
