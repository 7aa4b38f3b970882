"""Every layer type refuses something, and says what: an example of bad input for each, beside test_every_type's.

What else a type refuses is tested where its numbers are. The messages are Caffe's where Caffe has one.
"""

import re

import numpy as np
import pytest
from gradient import RunningLayer

import caffe
from caffe.layer import LayerError, layer_type_list, native_type

A = np.ones

# type -> its options, its bottoms, and what is said of them
BAD_INPUT = {
    'Accuracy': ('', [A((2, 3)), A((3,))], 'Number of labels must match number of predictions'),
    'ArgMax': ('argmax_param { top_k: 9 }', [A((2, 3))], 'top_k must be less than or equal to the dimension'),
    'Axpy': (
        '',
        [A((1, 3)), A((1, 2, 4, 4)), A((1, 2, 4, 4))],
        'bottom 0 must hold a scale for each image and channel',
    ),
    'BN': ('', [A((3,))], 'must have shape (N, C, ...)'),
    'BatchReindex': ('', [A((2, 3)), [5]], 'not below the batch size 2'),
    'Bias': ('bias_param { axis: 1 }', [A((2, 3)), A((4,))], 'dimension mismatch'),
    'BoxAnnotatorOHEM': (
        'box_annotator_ohem_param { roi_per_img: 0 }',
        [A((2, 5)), A(2), A(2), A((2, 4))],
        'needs a roi_per_img > 0',
    ),
    'Clip': ('clip_param { min: 2 max: 1 }', [A((2, 3))], 'min 2 is larger than max 1'),
    'Concat': ('', [A((2, 3, 4)), A((2, 3, 5))], 'same shape, except at concat_axis (1)'),
    'ContrastiveLoss': ('', [A((2, 3)), A((2, 4)), A(2)], 'features must be (N, C) in both bottoms'),
    'Convolution': (
        'convolution_param { num_output: 1 kernel_size: 9 }',
        [A((1, 1, 4, 4))],
        'the filter spans (9, 9), more than the padded input',
    ),
    'ConvolutionDepthwise': (
        'convolution_param { num_output: 3 kernel_size: 1 }',
        [A((1, 2, 4, 4))],
        'multiples of group: 3 and 2',
    ),
    'Crop': ('crop_param { offset: 3 }', [A((1, 1, 4, 4)), A((1, 1, 2, 2))], 'dimension 2 is out-of-bounds'),
    'Data': (
        'data_param { batch_size: 1 source: "no_such_folder" backend: LMDB }',
        [],
        "'no_such_folder', which is not there",
    ),
    'Deconvolution': (
        'convolution_param { num_output: 3 kernel_size: 2 group: 2 }',
        [A((1, 2, 4, 4))],
        'multiples of group: 3 and 2',
    ),
    'DepthwiseConvolution': (
        'convolution_param { num_output: 3 group: 2 kernel_size: 1 }',
        [A((1, 2, 4, 4))],
        'multiples of group: 3 and 2',
    ),
    'DetectionOutput': ('', [A((1, 4)), A((1, 2)), A((1, 2, 4))], 'Must specify num_classes'),
    'Dropout': ('dropout_param { dropout_ratio: 1 }', [A((2, 3))], 'at least 0 (drop nothing) and less than 1; got 1'),
    'DummyData': ('', [], 'Must specify shape once'),
    'Eltwise': ('', [A((2, 3)), A((2, 4))], 'bottoms must have one shape'),
    'Embed': ('embed_param { num_output: 2 input_dim: 3 }', [[5]], 'element 0 of the bottom is 5'),
    'EuclideanLoss': ('', [A((2, 3)), A((2, 4))], 'Inputs must have the same dimension'),
    'Exp': ('exp_param { base: -2 }', [A((2, 3))], 'base must be positive, or -1 for e; got -2'),
    'Filter': ('', [A((2, 3)), A((3,))], 'same 0th dimension as the selector'),
    'Flatten': ('flatten_param { axis: 5 }', [A((2, 3))], 'axis 5 out of range'),
    'HDF5Data': (
        'hdf5_data_param { source: "no_such_list" batch_size: 1 }',
        [],
        "Failed to open source file: 'no_such_list'",
    ),
    'HDF5Output': ('', [A((2, 3)), A((2,))], 'file_name } is missing'),
    'HingeLoss': ('', [A((2, 3)), [7, 0]], 'label 7 (element 0'),
    'Im2col': ('convolution_param { kernel_size: 9 }', [A((1, 1, 4, 4))], 'the filter spans (9, 9)'),
    'ImageData': ('image_data_param { source: "no_such_list" }', [], "'no_such_list', which is not there"),
    'InfogainLoss': ('', [A((2, 3)), A(2)], 'Infogain matrix source must be specified'),
    'InnerProduct': ('inner_product_param { num_output: 2 axis: 5 }', [A((2, 3))], 'axis 5 out of range'),
    'Interp': ('', [A((1, 1, 4))], 'Output dimension specified either by'),
    'LRN': ('lrn_param { local_size: 2 }', [A((1, 2, 3, 3))], 'odd values for local_size, got 2'),
    'LSTM': ('recurrent_param { num_output: 2 }', [A((3, 2, 4)), A((3, 1))], 'bottom[1] must have exactly 2 axes'),
    'LSTMUnit': ('', [A((1, 2, 3)), A((1, 2, 5)), A((1, 2))], '(1, N, D), (1, N, 4 * D) and (1, N)'),
    'Log': ('log_param { base: -3 }', [A((2, 3))], 'base must be positive, or -1 for e; got -3'),
    'MemoryData': ('', [], 'must be specified and positive'),
    'MultiBoxLoss': ('', [A((1, 4)), A((1, 2)), A((1, 2, 4)), A((1, 1, 1, 8))], 'Must provide num_classes'),
    'MultinomialLogisticLoss': ('', [A((2, 3)), [7, 0]], 'label 7 (element 0'),
    'Normalize': ('', [A((3,))], 'bottom blob must be >=2'),
    'PReLU': ('prelu_param { }', [A((3,))], 'bottom blob must be >=2'),
    'PSROIPooling': (
        'psroi_pooling_param { output_dim: 2 group_size: 2 spatial_scale: 0.5 }',
        [A((1, 7, 4, 4)), A((1, 5))],
        'output_dim * group_size^2 = 8',
    ),
    'Permute': ('permute_param { order: [0, 0] }', [A((2, 3))], 'duplicate orders: [0, 0]'),
    'Pooling': (
        'pooling_param { kernel_size: 2 pad: 2 }',
        [A((1, 1, 4, 4))],
        'pad (2, 2) must be smaller than the kernel (2, 2)',
    ),
    'PriorBox': ('', [A((1, 1, 2, 2)), A((1, 3, 8, 8))], 'must provide min_size'),
    'Proposal': (
        '',
        [A((1, 18, 4, 4)), A((1, 35, 4, 4)), A((1, 3))],
        'with 9 anchors, one image needs bottoms of shape',
    ),
    'RNN': ('recurrent_param { num_output: 2 }', [A((3, 2, 4)), A((3, 1))], 'bottom[1] must have exactly 2 axes'),
    'ROIAlign': ('roi_align_param { pooled_h: 3 }', [A((1, 2, 4, 4)), A((1, 5))], 'pooled_w must be > 0'),
    'ROIPooling': ('roi_pooling_param { pooled_h: 3 }', [A((1, 2, 4, 4)), A((1, 5))], 'pooled_w must be > 0'),
    'Reduction': ('reduction_param { axis: 4 }', [A((2, 3))], 'axis 4 out of range'),
    'Reshape': ('reshape_param { shape { dim: 4 } }', [A((2, 3))], 'output count must match input count'),
    'SPP': ('spp_param { pyramid_height: 9 }', [A((1, 1, 4, 4))], 'must be smaller than the kernel'),
    'Scale': ('', [A((2, 3)), A((4,))], 'dimension mismatch'),
    'ShuffleChannel': ('shuffle_channel_param { group: 3 }', [A((1, 4, 2, 2))], 'no channels that 3 groups can share'),
    'SigmoidCrossEntropyLoss': ('', [A((2, 3)), A((2, 4))], 'must have the same count'),
    'Slice': ('slice_param { slice_point: 9 }', [A((2, 3))], 'slice_points must rise and lie within'),
    'SmoothL1Loss': ('', [A((2, 3)), A((2, 4))], 'bottom 1 must have the shape of bottom 0'),
    'SmoothL1LossOHEM': ('', [A((2, 4)), A((1, 4))], 'same first dimension'),
    'Softmax': ('softmax_param { axis: 4 }', [A((2, 3))], 'axis 4 out of range'),
    'SoftmaxWithLoss': ('', [A((2, 3)), [7, 0]], 'label 7 (element 0'),
    'SoftmaxWithLossOHEM': ('', [A((1, 2)), [2]], 'label 2 (element 0'),
    'Tile': ('tile_param { tiles: 0 }', [A((2, 3))], 'Number of tiles must be positive, found 0'),
    'WindowData': ('window_data_param { source: "no_such_list" }', [], 'must be positive'),
}

# They take all numbers and shapes. What they refuse is another number of bottoms.
ANY_INPUT = {
    'AbsVal', 'BNLL', 'BatchNorm', 'ELU', 'Input', 'MVN', 'Parameter', 'Power', 'ReLU', 'ReLU6', 'Sigmoid', 'Silence',
    'Split', 'Swish', 'TanH', 'Threshold',
}  # fmt: skip


# More of what they refuse, where one example does not reach it: type, options, bottoms, what is said
PRIORS, OBJECTS = A((1, 2, 8)), A((1, 1, 1, 8))
MULTIBOX = [A((1, 8)), A((1, 6)), PRIORS, OBJECTS]
ALSO_REFUSED = [
    ('BN', '', [A((2, 3))], 'parameters of 3 numbers are expected', 'blobs { shape { dim: 1 } data: 1 }'),
    ('Clip', 'clip_param { min: 2 }', [A((2, 3))], 'clip_param needs a max', ''),
    ('Convolution', 'convolution_param { kernel_size: 1 }', [A((1, 1, 4, 4))], 'num_output must be positive', ''),
    (
        'Convolution', 'convolution_param { num_output: 1 kernel_size: 1 dilation: 0 }', [A((1, 1, 4, 4))],
        'Dilation dimensions must be nonzero: (0, 0)', '',
    ),
    ('Im2col', 'convolution_param { kernel_size: 1 }', [A((2, 3))], 'needs a spatial axis after the channels', ''),
    (
        'Deconvolution', 'convolution_param { num_output: 1 kernel_size: 1 pad: 2 }', [A((1, 1, 4, 4))],
        'pad (2, 2) leaves nothing of the output', '',
    ),
    ('Bias', 'bias_param { axis: 1 }', [A((2, 3)), A((3, 4))], "extends past bottom[0]'s shape (2, 3)", ''),
    ('Concat', 'concat_param { concat_dim: 5 }', [A((2, 3)), A((2, 3))], 'concat_dim 5 out of range', ''),
    ('Crop', '', [A((1, 1, 4, 4)), A((1, 1))], 'bottom 1 says the size of each axis', ''),
    ('DetectionOutput', 'detection_output_param { num_classes: 2 nms_param { nms_threshold: -1 } }',
     [A((1, 8)), A((1, 4)), PRIORS], 'nms_threshold must be non negative; got -1', ''),
    ('DetectionOutput', 'detection_output_param { num_classes: 2 nms_param { eta: 2 } }',
     [A((1, 8)), A((1, 4)), PRIORS], 'eta must be above 0 and at most 1; got 2', ''),
    ('Embed', 'embed_param { input_dim: 3 }', [A(2)], 'num_output must be positive', ''),
    ('Embed', 'embed_param { num_output: 3 }', [A(2)], 'input_dim must be positive', ''),
    ('HDF5Data', 'hdf5_data_param { source: "none" }', [], 'must be positive', ''),
    ('ImageData', 'image_data_param { source: "none" batch_size: 0 }', [], 'Positive batch size required', ''),
    ('Data', 'data_param { source: "none" backend: LMDB }', [], 'Positive batch size required', ''),
    ('Data', 'data_param { source: "none" backend: LMDB batch_size: 1 prefetch: 0 }', [], 'must be positive', ''),
    ('InnerProduct', 'inner_product_param { }', [A((2, 3))], 'num_output must be positive', ''),
    (
        'InnerProduct', 'inner_product_param { num_output: 2 }', [A((2, 3))],
        'Incorrect number of weight blobs: expected 2, got 1', 'blobs { shape { dim: 1 } data: 1 }',
    ),
    ('Interp', 'interp_param { zoom_factor: 2 }', [A((2, 3))], 'bottoms must have shape (N, C, H, W)', ''),
    ('MultiBoxLoss', 'multibox_loss_param { num_classes: 3 mining_type: NONE share_location: false '
     'use_prior_for_matching: false }', MULTIBOX, 'needs share_location: true', ''),
    ('MultiBoxLoss', 'multibox_loss_param { num_classes: 3 map_object_to_agnostic: true }', MULTIBOX,
     'map_object_to_agnostic needs num_classes: 2; got 3', ''),
    ('MultiBoxLoss', 'multibox_loss_param { num_classes: 3 }', [*MULTIBOX[:2], A((1, 8)), OBJECTS],
     'bottom 2 must be priors of shape (1, 2, priors * 4)', ''),
    ('MultiBoxLoss', 'multibox_loss_param { num_classes: 3 }', [A((1, 4)), *MULTIBOX[1:]],
     'must match number of location predictions', ''),
    ('MVN', '', [A((1, 1, 1, 1, 2))], 'at most 4 axes', ''),
    ('PReLU', '', [A((2, 3))], 'Negative slope size is inconsistent', 'blobs { shape { dim: 1 } data: 1 }'),
    ('PSROIPooling', 'psroi_pooling_param { spatial_scale: 1 output_dim: 1 group_size: 1 }',
     [A((1, 1, 4, 4)), A((1, 4))], 'PSROIPooling: bottom 1 must be RoIs of shape (R, 5)', ''),
    ('Pooling', 'pooling_param { kernel_size: 2 }', [A((1, 1, 0, 4))], 'Input dimensions cannot be zero', ''),
    ('PriorBox', 'prior_box_param { min_size: -1 }', [A((1, 1, 2, 2))] * 2, 'min_size must be positive; got [-1', ''),
    ('PriorBox', 'prior_box_param { min_size: [1, 2] max_size: 3 }', [A((1, 1, 2, 2))] * 2,
     '2 min_size need as many max_size', ''),
    ('PriorBox', 'prior_box_param { min_size: 1 aspect_ratio: -1 }', [A((1, 1, 2, 2))] * 2,
     'aspect_ratio must be positive', ''),
    ('PriorBox', 'prior_box_param { min_size: 1 }', [A((1, 1, 2, 2)), A(2)],
     'bottom 1 must have shape (N, C, H, W)', ''),
    ('Proposal', '', [A((1, 18, 4, 4)), A((1, 36, 4, 4)), A(2)], 'must hold height, width and scale', ''),
    ('ROIAlign', 'roi_align_param { pooled_h: 1 pooled_w: 1 }', [A((2, 3)), A((1, 5))],
     'bottom 0 must be features of shape (N, C, H, W)', ''),
    ('ROIPooling', 'roi_pooling_param { pooled_w: 1 }', [A((1, 2, 4, 4)), A((1, 5))], 'pooled_h must be > 0', ''),
    ('ROIPooling', 'roi_pooling_param { pooled_h: 1 pooled_w: 1 }', [A((2, 3)), A((1, 5))],
     'bottom 0 must be features of shape (N, C, H, W)', ''),
    ('ROIPooling', 'roi_pooling_param { pooled_h: 1 pooled_w: 1 }', [A((1, 2, 4, 4)), A((1, 4))],
     'ROIPooling: bottom 1 must be RoIs of shape (R, 5)', ''),
    ('BoxAnnotatorOHEM', 'box_annotator_ohem_param { roi_per_img: 1 }', [A((2, 4)), A(2), A(2), A((2, 4))],
     'bottom 0 must be RoIs of shape (R, 5)', ''),
    ('BoxAnnotatorOHEM', 'box_annotator_ohem_param { roi_per_img: 1 }', [A((2, 5)), A(2), A(2), A((3, 4))],
     'bottom 3, the box weights, must have a row an RoI', ''),
    ('SPP', 'spp_param { }', [A((1, 1, 4, 4))], 'pyramid_height must be positive', ''),
    ('RNN', 'recurrent_param { num_output: 2 }', [A(3), A(3)], 'must have at least 2 axes', ''),
]  # fmt: skip


def test_every_type_has_an_example():
    assert set(layer_type_list()) - {'Python'} - ANY_INPUT == set(BAD_INPUT), 'give it a row in BAD_INPUT'
    assert not ANY_INPUT & set(BAD_INPUT)


@pytest.mark.parametrize('kind', BAD_INPUT)
def test_bad_input_is_refused(kind):
    options, bottoms, message = BAD_INPUT[kind]
    with pytest.raises(LayerError, match=re.escape(message)):
        RunningLayer(f'type: "{kind}" {options}', bottoms, n_tops=2 if kind == 'Slice' else 1).forward()


@pytest.mark.parametrize('kind, options, bottoms, message, blobs', ALSO_REFUSED)
def test_more_of_what_is_refused(kind, options, bottoms, message, blobs):
    with pytest.raises(LayerError, match=re.escape(message)):
        RunningLayer(f'type: "{kind}" {options} {blobs}', bottoms).forward()


@pytest.mark.parametrize('kind', sorted(set(layer_type_list()) - {'Python'}))
def test_another_number_of_bottoms_is_refused(kind, tmp_path):
    """One more than the type takes, or one less where any number is enough, in a net: the message names the layer."""
    number = native_type(kind).num_bottom
    least, most = (number, number) if isinstance(number, int) else number
    given = least - 1 if most is None else most + 1
    names = [f'b{i}' for i in range(given)]
    inputs = ''.join(
        f'layer {{ name: "{n}" type: "Input" top: "{n}" input_param {{ shape {{ dim: 2 }} }} }}\n' for n in names
    )
    bottoms = ' '.join(f'bottom: "{name}"' for name in names)
    path = tmp_path / 'net.prototxt'
    path.write_text(f'{inputs}layer {{ name: "the_layer" type: "{kind}" {bottoms} top: "t" }}')
    with pytest.raises(LayerError, match=rf"net.prototxt:{given + 1}: layer 'the_layer' \({kind}\).*bottom.*{given}"):
        caffe.Net(str(path), caffe.TEST)
