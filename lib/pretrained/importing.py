"""From a file of weights to those of a net here: which layers, in which form, and what is to be said of it."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from detection_nets.mobilenet import MobileNetV2
from detection_nets.prototxt import Prototxt
from detection_nets.resnet import ResNet50
from pretrained import WeightsError
from pretrained.conversion import folded, for_caffe, own_means
from pretrained.files import Arrays
from pretrained.sources import CAFFE, VGG16_CONVOLUTIONS, Source, layer_arrays, source_of

CLASSES = 1000  # of ImageNet
SIDE = 224  # pixels
_NOT_OF_DETECTORS = ('conv18',)

# Which file of models/ has the layers, and the name that scripts and projects look for
NETS = {
    'VGG16': ('VGG16/fast_rcnn/test.prototxt', 'VGG16.v2.caffemodel'),
    'ResNet-50': ('ResNet-50/fast_rcnn/test.prototxt', 'ResNet-50-folded.caffemodel'),
    'ResNet-50 published': ('ResNet-50/rfcn_end2end/test.prototxt', 'ResNet-50-model.caffemodel'),
    'MobileNet-v2': ('MobileNet-v2/fast_rcnn/test.prototxt', 'MobileNet-v2-folded.caffemodel'),
}


@dataclasses.dataclass(frozen=True)
class Imported:
    """Weights for a net here.

    layers: by layer's name, its blobs; classifier: weights and bias of ImageNet's classes, if the file has them;
    source: whose they are, None of an .npz; means: PIXEL_MEANS to use them with.
    """

    net: str
    layers: dict[str, list[np.ndarray]]
    classifier: tuple[np.ndarray, np.ndarray] | None
    source: Source | None
    means: tuple[float, ...]

    @property
    def off_at_border(self) -> float:
        """Grey levels by which what lies beyond the image's border differs from what the net was trained with."""
        if self.source is None:
            return 0.0
        return max(abs(a - b) for a, b in zip(own_means(self.source.input), self.means, strict=True))

    @property
    def prototxt(self) -> str:
        """Of a net with these layers, from the project's folder."""
        return f'models/pascal_voc/{NETS[self.net][0]}' if self.net in NETS else self.net


def imported(arrays: Arrays, path: str, keep_means: bool = False, net: str | None = None) -> Imported:
    """The weights in `arrays`, read from `path`, for the net that they are of.

    For BGR pixels less Caffe's means; `keep_means`: less those that the weights were trained with. `net`: the prototxt
    that has the layers, for arrays called <layer>/0 and <layer>/1. Raises WeightsError.
    """
    if net is not None or all('/' in name and name.rpartition('/')[2].isdigit() for name in arrays):
        return _of_npz(arrays, path, net)
    source = source_of(set(arrays), path)
    means = own_means(source.input) if keep_means else CAFFE.mean
    layers: dict[str, list[np.ndarray]] = {}
    try:
        for layer, pair in source.layers.items():
            if layer in ('fc6', 'fc7') and not _has(arrays, source, pair[0]):
                continue  # Keras's and timm's files without the classifier
            weights, bias, statistics = layer_arrays(source, arrays, pair)
            layers |= _converted(source, layer, weights, bias, statistics, means)
        classifier = None
        if _has(arrays, source, source.classifier[0]):
            weights, bias, _ = layer_arrays(source, arrays, source.classifier)
            if weights.shape[0] == CLASSES and bias is not None:
                classifier = weights.reshape(CLASSES, -1), bias
    except WeightsError as error:
        raise WeightsError(f'{path}: it looks like {source.net} of {source.program}, but {error}') from None
    except (ValueError, IndexError) as error:
        raise WeightsError(
            f'{path}: it looks like {source.net} of {source.program}, but its arrays are of other shapes ({error})'
        ) from None
    return Imported(source.net + (' published' if source.published else ''), layers, classifier, source, means)


def _has(arrays: Arrays, source: Source, name: str) -> bool:
    return f'{name}/kernel' in arrays if source.keras else f'{name}.weight' in arrays


def _converted(
    source: Source,
    layer: str,
    weights: np.ndarray,
    bias: np.ndarray | None,
    statistics: tuple[np.ndarray, ...] | None,
    means: tuple[float, ...],
) -> dict[str, list[np.ndarray]]:
    """The layers here that do what one of the source does."""
    none = np.zeros(weights.shape[0], np.float32)
    first = layer in ('conv1', 'conv1_1')
    if layer == 'fc6' and source.keras:  # the maps lie behind one another there, rows and columns here
        weights = weights.reshape(-1, 7, 7, 512).transpose(0, 3, 1, 2)
    if layer in ('fc6', 'fc7'):
        return {layer: [weights.reshape(len(weights), -1), none if bias is None else bias]}
    if statistics is not None and not source.published:
        weights, bias = folded(weights, bias, statistics, source.eps)
    bias = none if bias is None else bias
    if first and weights.shape[1:2] != (3,):
        raise WeightsError(
            f'its arrays are of other shapes (the first convolution has {weights.shape}, not 3 channels)'
        )
    if first:
        weights, bias = for_caffe(weights, bias, source.input, means)
    if not source.published:
        return {layer: [weights, bias]}
    assert statistics is not None
    gamma, beta, mean, variance = statistics
    short = layer.removeprefix('res') if layer != 'conv1' else '_conv1'
    # Caffe adds 1e-5 to the variance; and its layers behind conv1 have no bias: the mean takes it
    variance = variance + np.float32(source.eps - 1e-5)
    convolution = [weights, bias] if first else [weights]
    mean = mean if first else mean - bias
    return {
        layer: convolution,
        f'bn{short}': [mean, variance, np.ones(1, np.float32)],
        f'scale{short}': [gamma, beta],
    }


def _of_npz(arrays: Arrays, path: str, net: str | None) -> Imported:
    """Arrays called <layer>/0 and <layer>/1 in Caffe's layout, for BGR pixels less Caffe's means."""
    numbered: dict[str, dict[int, np.ndarray]] = {}
    for key, array in arrays.items():
        name, _, number = key.rpartition('/')
        if not name or not number.isdigit():
            raise WeightsError(f'{path}: array {key!r}; expected arrays called <layer>/0 and <layer>/1')
        numbered.setdefault(name, {})[int(number)] = array
    for name, found in numbered.items():
        if sorted(found) != list(range(len(found))):
            raise WeightsError(f'{path}: layer {name!r} has arrays {sorted(found)}; expected 0, 1, ...')
    layers = {name: [found[k] for k in sorted(found)] for name, found in numbered.items()}
    known = {'conv1_1': 'VGG16', 'block1/dwise': 'MobileNet-v2', 'bn_conv1': 'ResNet-50 published'}
    known |= {'res2a_branch2a': 'ResNet-50'}
    net = net or next((name for layer, name in known.items() if layer in layers), None)
    if net is None:
        raise WeightsError(
            f'{path}: none of the nets here has all layers {", ".join(list(layers)[:5])}: give --net FILE'
        )
    return Imported(net, layers, None, None, CAFFE.mean)


def classifier_prototxt(net: str) -> tuple[str, str]:
    """The net as ImageNet's classifier has it, input data, output prob; and the name of its last layer with weights."""
    made = Prototxt(net, training=False)
    made.input('data', [1, 3, SIDE, SIDE])
    if net == 'VGG16':
        x = 'data'
        for name in VGG16_CONVOLUTIONS:
            options = {'num_output': 64 * min(2 ** (int(name[4]) - 1), 8), 'kernel_size': [3], 'pad': [1]}
            if name.endswith('_1') and name != 'conv1_1':
                halving = {'pool': 'MAX', 'kernel_size': 2, 'stride': 2}
                x = made.add(f'pool{int(name[4]) - 1}', 'Pooling', x, pooling_param=halving)
            x = made.add(name, 'Convolution', x, convolution_param=options)
            made.add(f'relu{name[4:]}', 'ReLU', x, tops=x)
        x = made.add('pool5', 'Pooling', x, pooling_param={'pool': 'MAX', 'kernel_size': 2, 'stride': 2})
        for name in ('fc6', 'fc7'):
            x = made.add(name, 'InnerProduct', x, inner_product_param={'num_output': 4096})
            made.add(f'relu{name[-1]}', 'ReLU', x, tops=x)
    else:
        backbone = MobileNetV2() if net == 'MobileNet-v2' else ResNet50(published=net.endswith('published'))
        x = backbone.classifier(made, 'data')
    x = made.add('classes', 'InnerProduct', x, inner_product_param={'num_output': CLASSES})
    made.add('prob', 'Softmax', x)
    return made.text(f'{net} as a classifier'), 'classes'


def of_detector(layers: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Those of a net's layers that detectors here have."""
    return {name: blobs for name, blobs in layers.items() if name not in _NOT_OF_DETECTORS}


def default_path(net: str) -> str:
    """Where scripts and projects look for the weights of a net, from the project's folder. Raises WeightsError."""
    if net not in NETS:
        raise WeightsError('--net is a net of your own: say where to write, with --out FILE')
    return os.path.join('data', 'imagenet_models', NETS[net][1])
