"""Every layer type has an example here: its backward pass is compared with finite differences, and with GPU mode's.

A type without a row fails. A new type needs its row and nothing else for both; what it computes is tested beside it.
"""

import numpy as np
import pytest
from gradient import RunningLayer, check_gradient

import caffe
from caffe.layer import layer_type_list
from caffe.process import device

RNG = np.random.default_rng(0)
X = np.array([[-2.5, -1.2, -0.3], [0.4, 1.1, 3.0]])
Y = X[::-1] + 0.25
POSITIVE = abs(X)
FILL = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" }'
IMAGE = (RNG.permutation(1 * 2 * 5 * 4) * 0.1 - 2).reshape(1, 2, 5, 4)  # no maximum is near another
MAPS = (RNG.permutation(8 * 5 * 4) * 0.1 - 2).reshape(1, 8, 5, 4)
SEQUENCE, CONT = RNG.standard_normal((4, 2, 3)), np.array([[0, 0], [1, 1], [1, 0], [1, 1]])
CELL, GATES = RNG.standard_normal((1, 2, 3)), RNG.standard_normal((1, 2, 12))
SCORES, LABELS = RNG.standard_normal((4, 3)), np.array([2, 0, 1, 1])
PROBABILITIES = RNG.uniform(0.2, 1, (4, 3))
PAIR = RNG.standard_normal((2, 6, 3))
CORRECT = np.array([[0, 1, 0.25], [1, 0, 0.75]])
# Four boxes, three of which overlap the one object enough or nearly so, and their variances.
PRIORS = np.array([[[0.1, 0.1, 0.5, 0.5, 0.1, 0.1, 0.6, 0.4, 0.5, 0.5, 0.9, 0.9, 0, 0, 0.2, 0.2], [0.1] * 16]])
OBJECTS = [[[[0, 2, 0, 0.12, 0.1, 0.5, 0.52, 0]]]]

# type -> (its options, its bottoms, what else `check_gradient` is told). Bottoms lie off the kinks.
EXAMPLES = {
    'AbsVal': ('', [X], {}),
    'Axpy': ('', [[[0.5, -2.0]], IMAGE, IMAGE[:, ::-1]], {'check': (0, 1, 2), 'atol': 5e-3}),
    'BN': ('bn_param { slope_filler { value: 2 } }', [IMAGE], {'phase': 'TRAIN', 'rtol': 2e-2, 'atol': 5e-3}),
    'BNLL': ('', [X], {}),
    'BatchNorm': ('', [IMAGE], {'phase': 'TRAIN', 'check_params': False}),
    'BatchReindex': ('', [X, [1, 0, 1]], {}),
    'Bias': ('bias_param { axis: 1 }', [X, [1, 2, 3]], {'check': (0, 1)}),
    'Clip': ('clip_param { min: -1 max: 1.5 }', [X], {}),
    'Concat': ('', [X, Y], {'check': (0, 1)}),
    'ContrastiveLoss': (
        'contrastive_loss_param { margin: 3 }',
        [*PAIR, [1, 0, 1, 0, 0, 1]],
        {'check': (0, 1), 'eps': 1e-3, 'rtol': 2e-2},
    ),
    'Convolution': (f'convolution_param {{ num_output: 3 kernel_size: 3 {FILL} }}', [IMAGE], {'atol': 3e-3}),
    'ConvolutionDepthwise': (f'convolution_param {{ num_output: 2 kernel_size: 3 {FILL} }}', [IMAGE], {'atol': 3e-3}),
    'Crop': ('crop_param { axis: 1 offset: 1 }', [X, np.zeros((2, 2))], {}),
    'Deconvolution': (f'convolution_param {{ num_output: 2 kernel_size: 2 {FILL} }}', [IMAGE], {'atol': 3e-3}),
    'DepthwiseConvolution': (
        f'convolution_param {{ num_output: 4 group: 2 kernel_size: 3 {FILL} }}',
        [IMAGE],
        {'atol': 3e-3},
    ),
    'Dropout': ('dropout_param { dropout_ratio: 0.4 }', [X], {'phase': 'TRAIN'}),
    'ELU': ('elu_param { alpha: 0.7 }', [X], {}),
    'Eltwise': ('eltwise_param { operation: PROD }', [X, Y], {'check': (0, 1), 'eps': 1e-3, 'rtol': 2e-2}),
    'Embed': (f'embed_param {{ input_dim: 4 num_output: 3 {FILL} }}', [[1, 3, 1]], {'check': ()}),
    'EuclideanLoss': ('', [X, Y], {'check': (0, 1)}),
    'Exp': ('exp_param { base: 2 shift: 1 }', [X], {}),
    'Filter': ('', [X, [1, 0]], {}),
    'Flatten': ('', [IMAGE], {}),
    'HingeLoss': ('', [SCORES, LABELS], {'eps': 1e-3}),
    'Im2col': ('convolution_param { kernel_size: 2 }', [IMAGE], {}),
    'InfogainLoss': ('', [SCORES, LABELS, PROBABILITIES[:3]], {}),
    'InnerProduct': (f'inner_product_param {{ num_output: 4 {FILL} }}', [X], {}),
    'Interp': ('interp_param { height: 4 width: 7 }', [IMAGE], {}),
    'LRN': ('lrn_param { local_size: 3 alpha: 0.5 }', [IMAGE[:, :, :2]], {}),
    'LSTM': (f'recurrent_param {{ num_output: 3 {FILL} }}', [SEQUENCE, CONT], {}),
    'LSTMUnit': ('', [CELL, GATES, [[1, 0]]], {'check': (0, 1), 'n_tops': 2}),
    'Log': ('log_param { base: 10 }', [POSITIVE], {}),
    'MVN': ('', [IMAGE], {'rtol': 2e-2, 'atol': 3e-3}),
    'MultiBoxLoss': (
        'multibox_loss_param { num_classes: 3 code_type: CENTER_SIZE }',
        [RNG.standard_normal((1, 16)), RNG.standard_normal((1, 12)), PRIORS, OBJECTS],
        {'check': (0, 1), 'eps': 1e-3, 'rtol': 2e-2},
    ),
    'MultinomialLogisticLoss': ('', [PROBABILITIES, LABELS], {'eps': 1e-3}),
    'Normalize': (
        'norm_param { across_spatial: false channel_shared: false scale_filler { type: "gaussian" std: 2 } }',
        [IMAGE],
        {'eps': 1e-3, 'rtol': 2e-2, 'atol': 5e-3},
    ),
    'PReLU': ('', [X], {}),
    'PSROIPooling': (
        'psroi_pooling_param { output_dim: 2 group_size: 2 spatial_scale: 0.5 }',
        [MAPS, [[0, 0, 0, 5, 7], [0, 2, 1, 4, 9], [0, 20, 1, 30, 9]]],
        {},
    ),
    'Parameter': ('parameter_param { shape { dim: [2, 3] } }', [], {'check': ()}),
    'Permute': ('permute_param { order: [0, 2, 3, 1] }', [IMAGE], {}),
    'Pooling': ('pooling_param { kernel_size: 3 stride: 2 }', [IMAGE], {}),
    'Power': ('power_param { power: 2 scale: -0.5 shift: 1 }', [X], {}),
    'RNN': (f'recurrent_param {{ num_output: 3 {FILL} }}', [SEQUENCE, CONT], {}),
    'ROIAlign': (
        'roi_align_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 }',
        [IMAGE, [[0, 0, 0, 5, 7], [0, 2.3, 0, 4, 9]]],
        {},
    ),
    'ROIPooling': (
        'roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 }',
        [IMAGE, [[0, 0, 0, 5, 7], [0, 2, 0, 4, 9]]],
        {},
    ),
    'ReLU': ('relu_param { negative_slope: 0.1 }', [X], {}),
    'ReLU6': ('relu6_param { negative_slope: 0.1 }', [X * 3], {}),
    'Reduction': ('reduction_param { axis: 1 }', [X], {}),
    'Reshape': ('reshape_param { shape { dim: [3, -1] } }', [X], {}),
    'SPP': ('spp_param { pyramid_height: 2 }', [IMAGE], {}),
    'Scale': ('scale_param { bias_term: true }', [X], {}),
    'ShuffleChannel': ('shuffle_channel_param { group: 2 }', [MAPS], {}),
    'Sigmoid': ('', [X], {}),
    'SigmoidCrossEntropyLoss': ('', [X, CORRECT], {}),
    'Slice': ('slice_param { axis: 1 slice_point: 1 }', [X], {'n_tops': 2}),
    'SmoothL1Loss': ('', [X, np.zeros((2, 3)), CORRECT, POSITIVE], {}),
    'SmoothL1LossOHEM': (
        'loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 3 }',
        [X, np.zeros((2, 3)), CORRECT > 0],
        {'check': (0, 1)},
    ),
    'Softmax': ('', [X], {}),
    'SoftmaxWithLoss': ('', [SCORES, LABELS], {}),
    'SoftmaxWithLossOHEM': ('loss_param { ignore_label: 2 }', [SCORES, LABELS], {}),
    'Split': ('', [X], {'n_tops': 2}),
    'Swish': ('swish_param { beta: 1.5 }', [X], {}),
    'TanH': ('', [X], {}),
    'Tile': ('tile_param { axis: 1 tiles: 3 }', [X], {}),
}

# As in Caffe: they read data, count, or give nothing that can be differentiated.
WITHOUT_GRADIENT = {
    'Accuracy',
    'ArgMax',
    'BoxAnnotatorOHEM',
    'Data',
    'DetectionOutput',
    'DummyData',
    'HDF5Data',
    'HDF5Output',
    'ImageData',
    'Input',
    'MemoryData',
    'PriorBox',
    'Proposal',
    'Silence',
    'Threshold',
    'WindowData',
}


def test_every_type_has_an_example_or_no_gradient():
    native = set(layer_type_list()) - {'Python'}
    assert native - WITHOUT_GRADIENT == set(EXAMPLES), 'give it a row in EXAMPLES, or a place in WITHOUT_GRADIENT'
    assert native >= WITHOUT_GRADIENT


@pytest.mark.parametrize('kind', EXAMPLES)
def test_gradient(kind):
    options, bottoms, more = EXAMPLES[kind]
    check_gradient(f'type: "{kind}" {options}', bottoms, **more)


@pytest.fixture
def simulated_gpu():
    device.simulate_gpu()
    yield
    device.simulate_gpu(False)
    caffe.set_mode_cpu()


@pytest.mark.parametrize('kind', EXAMPLES)
def test_gpu_mode_gives_the_same(kind, simulated_gpu):
    """On the simulated device, which keeps its copies apart: a copy that is missing gives stale numbers."""
    options, bottoms, more = EXAMPLES[kind]
    check = more.get('check', (0,))
    results = []
    for set_mode in (caffe.set_mode_cpu, caffe.set_mode_gpu):
        set_mode()
        run = RunningLayer(f'type: "{kind}" {options}', bottoms, more.get('phase', 'TEST'), more.get('n_tops', 1))
        tops = run.forward()
        diffs = run.backward([np.cos(top) for top in tops], [i in check for i in range(len(bottoms))])
        results.append([*tops, *(diffs[i] for i in check), *(blob.diff.copy() for blob in run.layer.blobs)])
    for on_cpu, on_gpu in zip(*results, strict=True):
        np.testing.assert_array_equal(on_cpu, on_gpu)
