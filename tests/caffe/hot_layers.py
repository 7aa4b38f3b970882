"""Runs the layers that take most of a step, forward and backward, by each way that this processor has.

For test_routes.py, which starts it with ONEDNN_VERBOSE=1: what oneDNN writes of its work follows a line `== <case>`.
"""

import ctypes
import itertools

import numpy as np
import torch
from gradient import RunningLayer

import caffe
from caffe.blob import Blob
from caffe.kernels import convolution, matrix
from caffe.kernels.processor import has_fast_bf16

RNG = np.random.default_rng(0)
FILL = 'weight_filler { type: "xavier" } bias_filler { type: "constant" value: 1 }'
POOLED = 'type: "ROIPooling" roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 1 }'


def product(options):
    return f'type: "InnerProduct" inner_product_param {{ num_output: 96 {FILL} {options} }}'


def filters(options, type='Convolution'):
    return f'type: "{type}" convolution_param {{ {FILL} {options} }}'


def pooling(options):
    return f'type: "Pooling" pooling_param {{ {options} }}'


LAYERS = {  # name: prototxt and the shape of its bottom
    'InnerProduct, many rows': (product(''), (300, 160, 3, 2)),
    'InnerProduct, few rows': (product(''), (64, 160, 3, 2)),
    'InnerProduct, transposed weights': (product('transpose: true'), (300, 160)),
    'InnerProduct, one row': (product(''), (1, 960)),
    'Convolution 3x3': (filters('num_output: 128 kernel_size: 3 pad: 1'), (1, 128, 30, 40)),
    'Convolution 3x3 of an image': (filters('num_output: 64 kernel_size: 3 pad: 1'), (2, 3, 60, 50)),
    'Convolution 7x7, stride 2': (filters('num_output: 96 kernel_size: 7 stride: 2'), (1, 3, 61, 53)),
    'Convolution 5x5, groups': (filters('num_output: 64 kernel_size: 5 pad: 2 group: 2'), (1, 32, 27, 27)),
    'Convolution 1x1': (filters('num_output: 32 kernel_size: 1'), (1, 64, 14, 14)),
    'Convolution, dilated': (filters('num_output: 32 kernel_size: 3 dilation: 2'), (1, 32, 20, 20)),
    'Convolution over a line': (filters('num_output: 16 kernel_size: 3'), (2, 16, 50)),
    'Deconvolution': (filters('num_output: 16 kernel_size: 4 stride: 2 pad: 1', 'Deconvolution'), (1, 16, 20, 20)),
    'Pooling, maxima': (pooling('kernel_size: 2 stride: 2'), (1, 64, 20, 20)),
    'Pooling, maxima of odd windows': (pooling('kernel_size: 3 stride: 2 pad: 1'), (1, 64, 21, 20)),
    'Pooling, means': (pooling('pool: AVE kernel_size: 3 stride: 2'), (1, 64, 21, 20)),
    'LRN': ('type: "LRN" lrn_param { local_size: 5 }', (1, 96, 20, 20)),
    'ReLU': ('type: "ReLU"', (1, 96, 20, 20)),
    'Softmax': ('type: "Softmax"', (64, 21)),
    'BatchNorm': ('type: "BatchNorm"', (2, 32, 10, 10)),
}


# Those above that are too small for bf16's backward pass to gain, larger
LARGE = {
    'InnerProduct, transposed weights': (product('transpose: true'), (300, 960)),
    'InnerProduct, much for few rows': (product('').replace('96', '512'), (64, 512, 3, 2)),
    'Convolution 1x1': (filters('num_output: 128 kernel_size: 1'), (1, 256, 20, 30)),
    'Convolution of an image': (filters('num_output: 64 kernel_size: 7 pad: 3'), (2, 3, 60, 50)),
    'Convolution, dilated': (filters('num_output: 64 kernel_size: 3 dilation: 2'), (1, 64, 20, 24)),
    'Convolution over a line': (filters('num_output: 64 kernel_size: 3'), (2, 64, 400)),
    'Deconvolution': (filters('num_output: 64 kernel_size: 4 stride: 2 pad: 1', 'Deconvolution'), (1, 64, 20, 20)),
}


def both_ways(prototxt, *bottoms):
    run = RunningLayer(prototxt, bottoms, phase='TRAIN')
    tops = run.forward()
    run.backward([np.ones_like(top) for top in tops], [i == 0 for i in range(len(bottoms))])


def rois_that_repeat(count, of):
    """RoI pooling without a backward pass, and an InnerProduct that gets its rows block by block."""
    x = RNG.standard_normal((1, 160, 20, 30))
    corners = RNG.integers(0, 10, (of, 2))
    distinct = np.column_stack([np.zeros(of), corners, corners + RNG.integers(1, 10, (of, 2))])
    pool = RunningLayer(POOLED, [x, distinct[RNG.integers(0, of, count)]])
    pool.layer.needs_backward = False
    fc = RunningLayer(product(''), [np.zeros((count, 160, 3, 2))])
    with torch.no_grad():
        pool.layer.forward(pool.bottoms, pool.tops)
        assert pool.tops[0].rows.count > 0
        fc.layer.forward(pool.tops, fc.tops)


def gradient_kept_as_factors():
    weight = Blob(1024, 1024)
    weight.add_product_diff(torch.randn(8, 1024), torch.randn(8, 1024))
    assert all(part.any() for (part,) in weight.diff_product.row_portions([]))
    assert weight.diff.any()


def say(case):
    ctypes.CDLL(None).fflush(None)
    print(f'== {case}', flush=True)


def run_all(way):
    for name, (prototxt, shape) in LAYERS.items():
        say(f'{name}; {way}')
        both_ways(prototxt, RNG.standard_normal(shape))
    say(f'ROIPooling; {way}')
    both_ways(POOLED, RNG.standard_normal((1, 64, 20, 30)), np.array([[0, 1, 2, 15, 17], [0, 3, 3, 20, 9]]))
    for count, of in ((2000, 400), (200, 64)):
        say(f'RoIs that repeat, {of} of {count}; {way}')
        rois_that_repeat(count, of)
    say(f'a gradient kept as factors; {way}')
    gradient_kept_as_factors()


def main():
    caffe.init_log(2)
    run_all('the ways chosen')
    for product_by, convolution_by in itertools.product(matrix.routes.names, convolution.routes.names):
        with matrix.routes.force(product_by), convolution.routes.force(convolution_by):
            run_all(f'products by {product_by}, convolutions {convolution_by}')
    if has_fast_bf16():
        caffe.set_precision('bf16')
        run_all('bf16')
        for name, (prototxt, shape) in LARGE.items():
            say(f'{name}, large; bf16')
            both_ways(prototxt, RNG.standard_normal(shape))
    say('the end')


if __name__ == '__main__':
    main()
