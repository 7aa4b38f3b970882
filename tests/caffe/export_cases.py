"""Nets of one layer (or two) for the tests of export and for the table of docs/export.md.

Each is exported with inputs of its first size, and then runs at each of its sizes (`exported.measure`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import caffe

Image = [(2, 4, 9, 7), (1, 4, 12, 10)]


@dataclass
class Case:
    """A net.

    name; text: the fields of a `layer`, or whole layers, or nothing; inputs: blob -> its sizes, one after the other,
    and what its numbers are: 'normal', 'small', 'positive', 'flag' (0 or 1), 'rois', 'im_info', 'priors', or the
    number of labels or indices.
    """

    name: str
    text: str
    inputs: dict[str, tuple[Sequence[tuple[int, ...]], str | int]]
    tops: int = 1
    phase: int = caffe.TEST

    @property
    def types(self) -> list[str]:
        """The types of its layers."""
        text = self.text or self.prototxt
        return sorted({word.split('"')[0] for word in text.split('type: "')[1:]} - FILLERS)

    @property
    def prototxt(self) -> str:
        shape = {n: ' '.join(f'dim: {d}' for d in sizes[0]) for n, (sizes, _) in self.inputs.items()}
        head = ''.join(
            f'layer {{ name: "{n}" type: "Input" top: "{n}" input_param {{ shape {{ {dims} }} }} }}\n'
            for n, dims in shape.items()
        )
        if self.text.startswith('layer') or not self.text:
            return head + self.text
        bottoms = ''.join(f'bottom: "{n}" ' for n in self.inputs)
        tops = ''.join(f'top: "out{k or ""}" ' for k in range(self.tops))
        return f'{head}layer {{ name: "layer" {bottoms}{tops}{self.text} }}\n'

    def arrays(self, k: int) -> dict[str, np.ndarray]:
        """The inputs of the k-th size."""
        rng = np.random.default_rng(k)
        return {name: numbers(rng, kind, sizes[k]) for name, (sizes, kind) in self.inputs.items()}

    @property
    def n_sizes(self) -> int:
        return min((len(sizes) for sizes, _ in self.inputs.values()), default=1)


def numbers(rng, kind: str | int, shape: tuple[int, ...]) -> np.ndarray:
    """An input."""
    if isinstance(kind, int):
        return rng.integers(0, kind, shape).astype(np.float32)
    if kind == 'rois':  # some beyond the 160 x 112 pixels of the images, some that end before they start
        corners = rng.uniform(-60, 260, (shape[0], 4))
        corners[: shape[0] // 2] = np.sort(corners.reshape(-1, 2, 2), axis=1).reshape(-1, 4)[: shape[0] // 2]
        halves = np.round(corners / 8) * 8  # whole and half pixels of the map: where rounding decides
        corners[::2] = halves[::2]
        return np.column_stack([rng.integers(0, 2, shape[0]), corners]).astype(np.float32)
    if kind == 'priors':  # boxes within the image, then their variances
        boxes = np.sort(rng.random((shape[2] // 4, 2, 2)), axis=1).reshape(1, -1)
        return np.stack([boxes, np.tile([0.1, 0.1, 0.2, 0.2], boxes.size // 4)[None]], axis=1).astype(np.float32)
    if kind == 'im_info':  # height, width and scale of the image
        return np.array([[112, 160, 1.25]], np.float32)
    if kind == 'flag':
        return (rng.random(shape) > 0.3).astype(np.float32)
    x = rng.standard_normal(shape).astype(np.float32)
    return np.abs(x) + 0.1 if kind == 'positive' else x / 4 if kind == 'small' else x


def elementwise(kind: str, options: str = '', values: str = 'normal') -> Case:
    return Case(f'{kind} {options}'.strip(), f'type: "{kind}" {options}', {'x': (Image, values)})


def pairs(shape=None, kind: str | int = 'normal'):
    return (Image if shape is None else shape, kind)


def pooling(options: str, tops: int = 1, sizes=None, values: str = 'normal') -> Case:
    sizes = sizes or [(2, 3, 9, 7), (1, 3, 12, 10), (1, 3, 13, 11), (1, 3, 8, 14)]
    return Case(f'Pooling {options}', f'type: "Pooling" pooling_param {{ {options} }}', {'x': (sizes, values)}, tops)


ROWS = [(4, 5), (7, 5)]
LABELS = [(4,), (7,)]
GRID, GRID_LABELS = [(2, 5, 3, 4), (3, 5, 2, 6)], [(2, 1, 3, 4), (3, 1, 2, 6)]
SEQUENCE, CONT = [(4, 3, 6), (4, 2, 6)], [(4, 3), (4, 2)]
STATE = [(1, 3, 5), (1, 2, 5)]
FILL = 'weight_filler { type: "gaussian" }'
FILLERS = {'gaussian', 'bilinear'}  # have a type as well


def filtered(kind: str, options: str, sizes=None, tops: int = 1) -> Case:
    """A Convolution, Deconvolution or InnerProduct."""
    field, outputs = ('inner_product', 3) if kind == 'InnerProduct' else ('convolution', 6)
    text = f'type: "{kind}" {field}_param {{ num_output: {outputs} {FILL} {options} }}'
    return Case(f'{kind} {options}'.strip(), text, {name: pairs(sizes) for name in 'xyz'[:tops]}, tops)


CASES = [
    Case('Input', '', {'x': pairs()}),
    elementwise('ReLU'), elementwise('ReLU', 'relu_param { negative_slope: 0.2 }'),
    elementwise('PReLU'), elementwise('PReLU', 'prelu_param { channel_shared: true }'),
    Case('PReLU rows', 'type: "PReLU"', {'x': (ROWS, 'normal')}),
    elementwise('ELU', 'elu_param { alpha: 0.7 }'), elementwise('Sigmoid'), elementwise('TanH'), elementwise('BNLL'),
    elementwise('Swish', 'swish_param { beta: 1.5 }'), elementwise('AbsVal'),
    elementwise('Clip', 'clip_param { min: -0.5 max: 1 }'),
    elementwise('Exp'), elementwise('Exp', 'exp_param { base: 2 scale: 0.5 shift: 1 }'),
    elementwise('Log', '', 'positive'), elementwise('Log', 'log_param { base: 10 scale: 2 shift: 1 }', 'positive'),
    elementwise('Power'), elementwise('Power', 'power_param { power: 2 scale: 0.5 shift: -1 }'),
    elementwise('Power', 'power_param { power: 0.5 shift: 1 }', 'positive'),
    elementwise('Power', 'power_param { power: 2 scale: 0 shift: 3 }'),
    elementwise('Power', 'power_param { power: 0 }'),
    elementwise('Threshold', 'threshold_param { threshold: 0.3 }'),
    elementwise('Dropout'), elementwise('Softmax'), elementwise('Softmax', 'softmax_param { axis: -1 }'),
    Case('Eltwise SUM', 'type: "Eltwise"', {'x': pairs(), 'y': pairs(), 'z': pairs()}),
    Case('Eltwise coeff', 'type: "Eltwise" eltwise_param { coeff: 1 coeff: -0.5 }', {'x': pairs(), 'y': pairs()}),
    Case('Eltwise PROD', 'type: "Eltwise" eltwise_param { operation: PROD }', {'x': pairs(), 'y': pairs()}),
    Case('Eltwise MAX', 'type: "Eltwise" eltwise_param { operation: MAX }', {n: pairs() for n in 'xyz'}),
    elementwise('Scale', 'scale_param { bias_term: true }'),
    elementwise('Scale', 'scale_param { axis: 1 num_axes: 0 }'),
    Case('Scale two', 'type: "Scale" scale_param { axis: 0 }', {'x': pairs(), 'y': pairs([(2, 4), (1, 4)])}),
    Case('Scale two bias', 'type: "Scale" scale_param { bias_term: true }', {'x': pairs(), 'y': pairs([(4,), (4,)])}),
    Case('Scale last axes', 'type: "Scale" scale_param { axis: 1 num_axes: -1 }', {'x': pairs([(2, 3, 5), (4, 3, 5)])}),
    elementwise('Bias', 'bias_param { filler { type: "gaussian" } }'),
    Case('Bias two', 'type: "Bias" bias_param { axis: 1 }', {'x': pairs(), 'y': pairs([(4,), (4,)])}),
    elementwise('Flatten'), elementwise('Flatten', 'flatten_param { axis: 2 }'),
    elementwise('Flatten', 'flatten_param { axis: 0 end_axis: 2 }'),
    elementwise('Reshape', 'reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } }'),
    elementwise('Reshape', 'reshape_param { axis: 1 num_axes: 2 shape { dim: -1 } }'),
    elementwise('Reshape', 'reshape_param { axis: -1 num_axes: 0 shape { dim: 1 } }'),
    elementwise('Reshape', 'reshape_param { shape { dim: -1 dim: 4 } }'),
    Case('Concat', 'type: "Concat"', {'x': pairs(), 'y': pairs([(2, 3, 9, 7), (1, 3, 12, 10)])}),
    Case('Concat rows', 'type: "Concat" concat_param { concat_dim: 0 }', {'x': pairs(), 'y': pairs()}),
    Case('Concat one', 'type: "Concat"', {'x': pairs()}),
    Case('Slice', 'type: "Slice"', {'x': pairs()}, 2),
    Case('Slice points', 'type: "Slice" slice_param { slice_point: 1 slice_point: 3 }', {'x': pairs()}, 3),
    Case('Slice rows', 'type: "Slice" slice_param { slice_dim: 2 slice_point: 5 }', {'x': pairs()}, 2),
    Case('Slice one', 'type: "Slice"', {'x': pairs()}),
    elementwise('Tile', 'tile_param { axis: 2 tiles: 3 }'),
    Case('Crop', 'type: "Crop" crop_param { offset: 1 offset: 2 }',
         {'x': pairs(), 'y': pairs([(2, 4, 6, 5), (1, 4, 8, 3)])}),
    Case('Crop channels', 'type: "Crop" crop_param { axis: 1 offset: 1 }',
         {'x': pairs(), 'y': pairs([(2, 2, 6, 5), (1, 3, 8, 3)])}),
    Case('Split', 'layer { name: "a" type: "ReLU" bottom: "x" top: "a" }\n'
         'layer { name: "b" type: "AbsVal" bottom: "a" top: "b" }\n'
         'layer { name: "c" type: "Split" bottom: "a" top: "c" top: "d" }', {'x': pairs()}),
    Case('Silence', 'layer { name: "c" type: "Slice" bottom: "x" top: "a" top: "b" }\n'
         'layer { name: "d" type: "Silence" bottom: "b" }', {'x': pairs()}),
    elementwise('ArgMax'), elementwise('ArgMax', 'argmax_param { top_k: 3 out_max_val: true }'),
    elementwise('ArgMax', 'argmax_param { axis: 1 top_k: 2 }'),
    elementwise('ArgMax', 'argmax_param { axis: -1 top_k: 2 out_max_val: true }'),
    Case('ArgMax equals', 'type: "ArgMax" argmax_param { top_k: 3 }', {'x': ([(3, 8), (2, 8)], 3)}),
    Case('Filter', 'type: "Filter"', {'x': pairs(ROWS), 'y': pairs([(4, 2), (7, 2)]), 's': (LABELS, 'flag')}, 2),
    Case('BatchReindex', 'type: "BatchReindex"', {'x': pairs([(4, 2), (4, 2)]), 'i': ([(5,), (9,)], 4)}),
    *(elementwise('Reduction', f'reduction_param {{ operation: {op} axis: {axis} coeff: 0.5 }}')
      for op, axis in (('SUM', 0), ('ASUM', 1), ('SUMSQ', -2), ('MEAN', 2))),
    filtered('InnerProduct', '', [(2, 4, 3), (5, 4, 3)]),
    filtered('InnerProduct', 'axis: 2 bias_term: false', [(2, 4, 3), (5, 6, 3)]),
    filtered('InnerProduct', 'axis: -1 transpose: true', [(2, 4, 3), (5, 6, 3)]),
    filtered('InnerProduct', 'axis: 0', [(2, 4)]),
    Case('Embed', f'type: "Embed" embed_param {{ input_dim: 6 num_output: 3 {FILL} }}', {'x': ([(4, 2), (3, 5)], 6)}),
    Case('Embed without bias', f'type: "Embed" embed_param {{ input_dim: 6 num_output: 3 bias_term: false {FILL} }}',
         {'x': ([(4,), (3,)], 6)}),
    elementwise('LRN', 'lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 }'),
    elementwise('LRN', 'lrn_param { local_size: 5 alpha: 0.5 beta: 0.6 k: 2 }'),
    elementwise('LRN', 'lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }'),
    elementwise('BatchNorm'), elementwise('BatchNorm', 'batch_norm_param { use_global_stats: false eps: 0.01 }'),
    Case('BatchNorm rows', 'type: "BatchNorm"', {'x': pairs(ROWS)}),
    Case('BatchNorm one axis', 'type: "BatchNorm"', {'x': pairs(LABELS)}),
    elementwise('MVN'), elementwise('MVN', 'mvn_param { across_channels: true }'),
    elementwise('MVN', 'mvn_param { normalize_variance: false }'),
    Case('MVN three axes', 'type: "MVN"', {'x': pairs([(2, 3, 5), (1, 3, 7)])}),
    Case('DummyData', 'layer { name: "c" type: "DummyData" top: "c" '
         'dummy_data_param { shape { dim: 2 dim: 3 } data_filler { value: 2 } } }', {}),
    Case('Parameter', 'layer { name: "c" type: "Parameter" top: "c" '
         'parameter_param { shape { dim: 2 dim: 3 } } }', {}),
    *(filtered(kind, options)
      for kind in ('Convolution', 'Deconvolution')
      for options in ('kernel_size: 3', 'kernel_h: 2 kernel_w: 3 stride: 2 pad_h: 1 pad_w: 0 bias_term: false',
                      'kernel_size: 3 group: 2 pad: 1', 'kernel_size: 3 dilation: 2 stride: 2 pad: 2')),
    Case('Deconvolution by channel', 'type: "Deconvolution" convolution_param { num_output: 4 group: 4 kernel_size: 4 '
         'stride: 2 pad: 1 bias_term: false weight_filler { type: "bilinear" } }', {'x': pairs()}),
    filtered('Convolution', 'kernel_size: 3 pad: 1', [(2, 4, 9), (3, 4, 5)]),
    filtered('Convolution', 'kernel_size: 2', [(2, 4, 5, 4, 3), (1, 4, 3, 5, 6)]),
    filtered('Convolution', '', [(2, 4), (3, 4)]),
    Case('depthwise', 'type: "DepthwiseConvolution" convolution_param { num_output: 8 group: 4 kernel_size: 3 }',
         {'x': (Image, 'normal')}),
    Case('convolution-depthwise', 'type: "ConvolutionDepthwise" convolution_param { num_output: 4 kernel_size: 3 }',
         {'x': (Image, 'normal')}),
    Case('permute', 'type: "Permute" permute_param { order: [0, 2, 3] }', {'x': (Image, 'normal')}),
    Case('shuffle-channel', 'type: "ShuffleChannel" shuffle_channel_param { group: 2 }', {'x': (Image, 'normal')}),
    Case('axpy', 'type: "Axpy"',
         {'s': ([(2, 4), (1, 4)], 'normal'), 'x': (Image, 'normal'), 'y': (Image, 'normal')}),
    Case('Normalize', 'type: "Normalize" norm_param { across_spatial: false channel_shared: false eps: 0.001 }',
         {'x': (Image, 'normal')}),
    Case('Normalize all', 'type: "Normalize" norm_param { across_spatial: true channel_shared: true }',
         {'x': (Image, 'normal')}),
    Case('BN', 'type: "BN" bn_param { eps: 0.001 }', {'x': (Image, 'normal')}),
    Case('BN frozen', 'type: "BN" bn_param { frozen: true }', {'x': (Image, 'normal')}, phase=caffe.TRAIN),
    Case('BN of the batch', 'type: "BN" bn_param { eps: 0.001 }', {'x': (Image, 'normal')}, phase=caffe.TRAIN),
    Case('BN SegNet', 'type: "BN" bn_param { scale_filler { value: 1 } }', {'x': (Image, 'normal')}),
    Case('BN SegNet inference', 'type: "BN" bn_param { bn_mode: INFERENCE }', {'x': (Image, 'normal')}),
    *(Case(f'Interp {options}', f'type: "Interp" interp_param {{ {options} }}', {'x': (Image, 'normal')})
      for options in ('height: 17 width: 5', 'zoom_factor: 3', 'shrink_factor: 2',
                      'pad_beg: -1 pad_end: -2 zoom_factor: 2',
                      'shrink_factor: 3 zoom_factor: 4', 'height: 1 width: 1')),
    Case('Interp as another', 'type: "Interp"',
         {'x': (Image, 'normal'), 'y': ([(1, 2, 13, 6), (1, 2, 5, 20)], 'normal')}),
    *(Case(f'PriorBox {name}', f'type: "PriorBox" prior_box_param {{ min_size: 30 {options} }}',
           {'x': ([(1, 2, 5, 4), (1, 2, 7, 9)], 'normal'), 'image': ([(1, 3, 40, 32), (1, 3, 60, 71)], 'normal')})
      for name, options in (('ratios', 'max_size: 60 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: true '
                             'variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2'),
                            ('step', 'step: 8 offset: 0.3'),
                            ('sizes', 'img_size: 300 flip: false aspect_ratio: 1.7'))),
    Case('PriorBox fixed', 'type: "PriorBox" prior_box_param { min_size: 9 img_size: 64 step: 8 }',
         {'x': (Image[:1], 'normal')}),
    elementwise('ReLU6'), elementwise('ReLU6', 'relu6_param { negative_slope: 0.2 }'),
    filtered('Convolution', 'axis: 2 kernel_size: 2', [(2, 3, 4, 5, 6), (1, 2, 4, 6, 5)]),
    filtered('Convolution', 'kernel_size: 3', tops=2),
    elementwise('Im2col', 'convolution_param { kernel_size: 3 stride: 2 pad: 1 }'),
    elementwise('Im2col', 'convolution_param { kernel_h: 2 kernel_w: 3 dilation: 2 }'),
    *(pooling(f'pool: {pool} {window}', values='positive' if pool == 'STOCHASTIC' else 'normal')
      for pool in ('MAX', 'AVE', 'STOCHASTIC')
      for window in ('kernel_size: 3 stride: 2', 'kernel_size: 2 stride: 2', 'kernel_h: 3 kernel_w: 2 stride_h: 1 '
                     'stride_w: 3', 'kernel_size: 3', 'kernel_size: 3 stride: 2 round_mode: FLOOR')),
    *(pooling(f'pool: {pool} {window}', sizes=sizes)
      for pool in ('MAX', 'AVE')
      for window in ('kernel_size: 3 stride: 2 pad: 1', 'kernel_size: 2 stride: 2 pad: 1', 'kernel_size: 3 pad: 1',
                     'kernel_size: 3 stride: 3 pad: 2', 'kernel_size: 5 stride: 4 pad_h: 4 pad_w: 0',
                     'kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR', 'global_pooling: true')
      for sizes in (None, [(1, 3, 6, 7)])),
    *(pooling(f'pool: MAX {window}', tops=2)
      for window in ('kernel_size: 3 stride: 2', 'kernel_size: 2 stride: 2 pad: 1', 'kernel_size: 3 stride: 3 pad: 2')),
    *(Case(f'SPP {pool} {height}', f'type: "SPP" spp_param {{ pyramid_height: {height} pool: {pool} }}',
           {'x': ([(2, 3, 8, 12), (1, 3, 13, 11), (1, 3, 12, 16)], 'normal')})
      for pool in ('MAX', 'AVE') for height in (1, 3)),
    Case('SPP STOCHASTIC', 'type: "SPP" spp_param { pyramid_height: 2 pool: STOCHASTIC }',
         {'x': ([(2, 3, 8, 12), (1, 3, 12, 6)], 'positive')}),
    Case('ROIPooling', 'type: "ROIPooling" roi_pooling_param { pooled_h: 7 pooled_w: 6 spatial_scale: 0.0625 }',
         {'x': pairs([(2, 3, 10, 7), (2, 3, 14, 9)]), 'rois': ([(12, 5), (300, 5)], 'rois')}),
    Case('ROIPooling one bin', 'type: "ROIPooling" roi_pooling_param { pooled_h: 1 pooled_w: 1 spatial_scale: 0.25 }',
         {'x': pairs([(2, 3, 40, 28), (2, 3, 44, 60)]), 'rois': ([(40, 5), (1, 5)], 'rois')}),
    *(Case(f'DetectionOutput {name}',
           'type: "DetectionOutput" detection_output_param { num_classes: 3 keep_top_k: 9 '
           f'nms_param {{ nms_threshold: 0.3 top_k: 8 }} {options} }}',
           {'c': ([(2, 48 * boxes), (3, 48 * boxes)], 'small'), 's': ([(2, 36), (3, 36)], 'normal'),
            'p': ([(1, 2, 48)] * 2, 'priors')})
      for name, options, boxes in (('', 'confidence_threshold: 0.2', 1), ('corners', 'code_type: CORNER', 1),
                                   ('own boxes', 'share_location: false code_type: CENTER_SIZE', 3),
                                   ('sizes', 'code_type: CORNER_SIZE variance_encoded_in_target: true', 1),
                                   ('none', 'confidence_threshold: 99', 1))),
    *(Case(f'ROIAlign {samples}', 'type: "ROIAlign" roi_align_param { pooled_h: 4 pooled_w: 3 spatial_scale: 0.0625 '
           f'sampling_ratio: {samples} }}',
           {'x': pairs([(2, 3, 10, 7), (2, 3, 14, 9)]), 'rois': ([(12, 5), (90, 5)], 'rois')})
      for samples in (0, 1, 2)),
    Case('PSROIPooling',
         'type: "PSROIPooling" psroi_pooling_param { spatial_scale: 0.0625 output_dim: 2 group_size: 3 }',
         {'x': pairs([(2, 18, 10, 7), (2, 18, 14, 9)]), 'rois': ([(12, 5), (90, 5)], 'rois')}),
    *(Case(f'Proposal {name}', f'type: "Proposal" proposal_param {{ feat_stride: 16 {options} }}',
           {'x': ([(1, 18, 7, 10), (1, 18, 9, 6)], 'normal'), 'c': ([(1, 36, 7, 10), (1, 36, 9, 6)], 'small'),
            'i': ([(1, 3)] * 2, 'im_info')}, tops)
      for name, options, tops in (('', '', 1),
                                  ('few', 'pre_nms_topn: 40 post_nms_topn: 7 nms_thresh: 0.5 min_size: 40', 2),
                                  ('all', 'pre_nms_topn: 0 post_nms_topn: 0 nms_thresh: 0.9 min_size: 0', 2),
                                  ('none', 'min_size: 5000', 2))),
    Case('LSTMUnit', 'type: "LSTMUnit"', {'c': pairs([(1, 3, 5), (1, 2, 5)]), 'g': pairs([(1, 3, 20), (1, 2, 20)]),
                                          'cont': ([(1, 3), (1, 2)], 'flag')}, 2),
    *(Case(f'{kind}{name}', f'type: "{kind}" recurrent_param {{ num_output: 5 {FILL} {options} }}',
           {'x': pairs(SEQUENCE), 'cont': (CONT, 'flag'), **more}, tops)
      for kind, tops_exposed, states in (('LSTM', 3, ('h', 'c')), ('RNN', 2, ('h',)))
      for name, options, more, tops in (
          ('', '', {}, 1), (' static', '', {'s': pairs([(3, 2, 2), (2, 2, 2)])}, 1),
          (' exposed', 'expose_hidden: true', {s: pairs(STATE) for s in states}, tops_exposed),
          (' static and exposed', 'expose_hidden: true',
           {'s': pairs([(3, 4), (2, 4)]), **{s: pairs(STATE) for s in states}}, tops_exposed))),
    Case('EuclideanLoss', 'type: "EuclideanLoss"', {'x': pairs(ROWS), 'y': pairs(ROWS)}),
    *(Case(f'SoftmaxWithLoss {options}', f'type: "SoftmaxWithLoss" loss_param {{ {options} }}',
           {'x': pairs(GRID), 'y': (GRID_LABELS, 5)}, 2)
      for options in ('', 'ignore_label: 2', 'normalization: FULL', 'ignore_label: 2 normalization: BATCH_SIZE',
                      'normalization: NONE', 'normalize: false')),
    Case('InfogainLoss', 'type: "InfogainLoss" loss_param { ignore_label: 2 }',
         {'x': pairs(GRID), 'y': (GRID_LABELS, 5), 'h': pairs([(5, 5)] * 2)}, 2),
    Case('SigmoidCrossEntropyLoss', 'type: "SigmoidCrossEntropyLoss"', {'x': pairs(GRID), 'y': (GRID, 2)}),
    Case('SigmoidCrossEntropyLoss ignore', 'type: "SigmoidCrossEntropyLoss" loss_param { ignore_label: 1 '
         'normalization: VALID }', {'x': pairs(GRID), 'y': (GRID, 2)}),
    Case('SmoothL1Loss', 'type: "SmoothL1Loss" smooth_l1_loss_param { sigma: 2 }', {n: pairs(ROWS) for n in 'xyzw'}),
    Case('SmoothL1Loss two', 'type: "SmoothL1Loss"', {n: pairs(ROWS) for n in 'xy'}),
    Case('HingeLoss', 'type: "HingeLoss"', {'x': pairs(ROWS), 'y': (LABELS, 5)}),
    Case('HingeLoss L2', 'type: "HingeLoss" hinge_loss_param { norm: L2 }', {'x': pairs(ROWS), 'y': (LABELS, 5)}),
    *(Case(f'ContrastiveLoss {legacy}',
           f'type: "ContrastiveLoss" contrastive_loss_param {{ margin: 3 legacy_version: {legacy} }}',
           {'x': pairs(ROWS), 'y': pairs(ROWS), 's': (LABELS, 'flag')}) for legacy in ('true', 'false')),
    Case('MultinomialLogisticLoss', 'type: "MultinomialLogisticLoss"', {'x': (ROWS, 'positive'), 'y': (LABELS, 5)}),
    Case('Accuracy', 'type: "Accuracy" accuracy_param { top_k: 2 }', {'x': pairs(ROWS), 'y': (LABELS, 5)}, 2),
    Case('Accuracy ignore', 'type: "Accuracy" accuracy_param { ignore_label: 1 axis: 1 }',
         {'x': pairs(GRID), 'y': (GRID_LABELS, 5)}),
]  # fmt: skip
