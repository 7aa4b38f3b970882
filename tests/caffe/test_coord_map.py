"""coord_map: where pixels of one blob lie in another. Expected values follow from kernel, stride, pad."""
# ruff: noqa: C408 (nets are written with dict(), as in pycaffe)

import numpy as np
import pytest

import caffe
from caffe import layers as L
from caffe.coord_map import AxisMismatchException, UndefinedMapException, coord_map_from_to, crop


def pyramid(kernel=3, pad=0, down=2, up_pad=0):
    """data -> conv (kernel, pad) -> pool (down) -> deconv (kernel 2 down, stride down, pad up_pad)."""
    data = L.Input(shape=dict(dim=[2, 1, 100, 100]))
    conv = L.Convolution(data, num_output=2, kernel_size=kernel, pad=pad)
    relu = L.ReLU(conv, in_place=True)
    pool = L.Pooling(relu, kernel_size=down, stride=down)
    window = dict(num_output=2, kernel_size=2 * down, stride=down, pad=up_pad)
    return data, conv, pool, L.Deconvolution(pool, convolution_param=window)


def test_one_layer_there_and_back():
    data, conv, *_ = pyramid(kernel=5, pad=1)
    # the centre of output 0's window is input (5 - 1) / 2 - 1 = 1
    assert coord_map_from_to(conv, data) == (1, 1, 1)
    assert coord_map_from_to(data, conv) == (1, 1, -1)


def test_down_and_up():
    data, _, pool, deconv = pyramid()
    # pool 0 lies at conv 0.5, which is data 1.5; two pixels a step
    assert coord_map_from_to(pool, data) == (1, 2, 1.5)
    # deconv's kernel 4 has pool 0 at deconv 1.5: the same place as data 1.5
    assert coord_map_from_to(deconv, data) == (1, 1, 0)


def test_padding_shifts():
    data, _, _, deconv = pyramid(up_pad=1)
    assert coord_map_from_to(deconv, data) == (1, 1, 1)
    assert coord_map_from_to(data, deconv) == (1, 1, -1)


def test_a_number_each_axis():
    data = L.Input(shape=dict(dim=[1, 1, 20, 20]))
    top = L.Convolution(data, num_output=1, kernel_size=[3, 5], stride=[1, 2], pad=[0, 2], dilation=2)
    axis, scale, shift = coord_map_from_to(top, data)
    assert axis == 1
    np.testing.assert_array_equal(scale, [1, 2])
    np.testing.assert_array_equal(shift, [2, 2])  # (3 - 1) * 2 / 2 - 0 and (5 - 1) * 2 / 2 - 2


def test_crop_has_the_offset_that_aligns_and_the_net_runs(tmp_path):
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 12, 12]))
    n.padded = L.Convolution(n.data, num_output=1, kernel_size=3, pad=5)  # data 0 is padded 4
    n.crop = crop(n.padded, n.data)
    param = n.to_proto().layer[-1].crop_param
    assert (param.axis, list(param.offset)) == (2, [4])
    assert coord_map_from_to(n.crop, n.data) == (1, 1, 0)
    path = tmp_path / 'net.prototxt'
    path.write_text(str(n.to_proto()))
    net = caffe.Net(str(path), caffe.TEST)
    net.params['padded'][0].data[0, 0, 1, 1] = 1  # copies pixels
    net.blobs['data'].data[...] = np.arange(144).reshape(12, 12)
    np.testing.assert_array_equal(net.forward()['crop'], net.blobs['data'].data)


def test_a_crop_of_a_crop():
    data = L.Input()
    padded = L.Convolution(data, num_output=1, kernel_size=1, pad=5)
    first = L.Crop(padded, data, axis=2, offset=3)
    assert crop(first, data).fn.params['crop_param'] == {'axis': 2, 'offset': [2]}


def test_refusals():
    data, _, pool, deconv = pyramid()
    with pytest.raises(RuntimeError, match='connected by spatial layers'):
        coord_map_from_to(data, L.Input())
    with pytest.raises(RuntimeError, match='connected by spatial layers'):
        coord_map_from_to(L.InnerProduct(deconv, num_output=1), data)
    with pytest.raises(AssertionError, match='scale mismatch on crop'):
        crop(pool, data)
    data, *_, deconv = pyramid(up_pad=1)
    with pytest.raises(AssertionError, match='cannot crop negative width'):
        crop(deconv, data)
    with pytest.raises(AssertionError, match='noninteger'):
        crop(L.Convolution(data, num_output=1, kernel_size=2, pad=3), data)
    with pytest.raises(ValueError, match='does not support legacy'):
        coord_map_from_to(L.Pooling(data, kernel_size=2, stride_h=2), data)
    skewed = L.Convolution(data, num_output=1, kernel_size=3, axis=2)
    with pytest.raises(AxisMismatchException, match='axis 1 and on axis 2'):
        coord_map_from_to(L.Convolution(skewed, num_output=1, kernel_size=3), data)


def test_errors_are_pycaffes_and_value_errors():
    """pycaffe asserts where maps do not fit; code that catches either kind goes on."""
    for kind in (UndefinedMapException, AxisMismatchException):
        assert issubclass(kind, ValueError)
        assert issubclass(kind, AssertionError)
    data, _, pool, _ = pyramid()
    with pytest.raises(ValueError, match='scale mismatch on crop'):
        crop(pool, data)
