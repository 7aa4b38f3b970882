"""Where each layer's numbers are in the files of torchvision, timm, Keras, and what these nets see of an image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from pretrained import WeightsError

# Of VGG16: the numbers of convolutions among torchvision's features, and the layers' names here
_VGG16_FEATURES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG16_CONVOLUTIONS = tuple(f'conv{k}_{i}' for k, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1))
RESNET_STAGES = ((2, 3), (3, 4), (4, 6), (5, 3))
MOBILENET_GROUPS = (1, 2, 3, 4, 3, 3, 1)  # blocks in each
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclasses.dataclass(frozen=True)
class Input:
    """What a net takes: (value - mean) / scale of each channel of pixels 0 ... 255, in the order `channels`."""

    channels: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]


TORCH = Input('RGB', tuple(255 * v for v in _IMAGENET[0]), tuple(255 * v for v in _IMAGENET[1]))
KERAS_CAFFE = Input('BGR', (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
KERAS_TF = Input('RGB', (127.5,) * 3, (127.5,) * 3)
CAFFE = Input('BGR', (102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0))


@dataclasses.dataclass(frozen=True)
class Source:
    """A net as a program has it.

    layers: the name here -> that of its convolution, or fully connected layer, and that of its BatchNorm, '' for none.
    classifier: the layer of ImageNet's 1000 classes in the file. eps: of BatchNorm. published: ResNet's authors' form.
    """

    program: str
    net: str
    license: str
    input: Input
    layers: dict[str, tuple[str, str]]
    classifier: tuple[str, str]
    eps: float = 1e-5
    keras: bool = False
    published: bool = False


def _vgg16(names: Callable[[int], str], dense: tuple[str, str]) -> dict[str, tuple[str, str]]:
    layers = {layer: (names(i), '') for i, layer in enumerate(VGG16_CONVOLUTIONS)}
    return layers | {'fc6': (dense[0], ''), 'fc7': (dense[1], '')}


def _resnet(names: Callable[[int, int, str], tuple[str, str]], first: tuple[str, str]) -> dict[str, tuple[str, str]]:
    layers = {'conv1': first}
    for stage, blocks in RESNET_STAGES:
        for i in range(blocks):
            for branch in (['branch1'] if i == 0 else []) + ['branch2a', 'branch2b', 'branch2c']:
                layers[f'res{stage}{"abcdef"[i]}_{branch}'] = names(stage, i, branch)
    return layers


def _mobilenet(
    names: Callable[[int, int, int, str], tuple[str, str]], first: tuple[str, str], last: tuple[str, str]
) -> dict[str, tuple[str, str]]:
    """names(number of the block, its group, its place there, expand / dwise / linear) -> convolution, BatchNorm."""
    layers, number = {'conv1': first}, 0
    for group, blocks in enumerate(MOBILENET_GROUPS):
        for i in range(blocks):
            number += 1
            for part in (['expand'] if number > 1 else []) + ['dwise', 'linear']:
                layers[f'block{number}/{part}'] = names(number, group, i, part)
    return layers | {'conv18': last}


def _torch_branch(stage: int, i: int, branch: str) -> tuple[str, str]:
    block = f'layer{stage - 1}.{i}'
    if branch == 'branch1':
        return f'{block}.downsample.0', f'{block}.downsample.1'
    number = 'abc'.index(branch[-1]) + 1
    return f'{block}.conv{number}', f'{block}.bn{number}'


def _keras_branch(stage: int, i: int, branch: str) -> tuple[str, str]:
    number = 0 if branch == 'branch1' else 'abc'.index(branch[-1]) + 1
    block = f'conv{stage}_block{i + 1}_{number}'
    return f'{block}_conv', f'{block}_bn'


def _old_keras_branch(stage: int, i: int, branch: str) -> tuple[str, str]:
    return f'res{stage}{"abcdef"[i]}_{branch}', f'bn{stage}{"abcdef"[i]}_{branch}'


def _torchvision_block(number: int, group: int, i: int, part: str) -> tuple[str, str]:
    parts = ['expand', 'dwise', 'linear'] if number > 1 else ['dwise', 'linear']
    block, k = f'features.{number}.conv', parts.index(part)
    if part == 'linear':
        return f'{block}.{k}', f'{block}.{k + 1}'
    return f'{block}.{k}.0', f'{block}.{k}.1'


def _timm_block(number: int, group: int, i: int, part: str) -> tuple[str, str]:
    if number == 1:
        conv, norm = {'dwise': ('conv_dw', 'bn1'), 'linear': ('conv_pw', 'bn2')}[part]
    else:
        conv, norm = {'expand': ('conv_pw', 'bn1'), 'dwise': ('conv_dw', 'bn2'), 'linear': ('conv_pwl', 'bn3')}[part]
    return f'blocks.{group}.{i}.{conv}', f'blocks.{group}.{i}.{norm}'


def _keras_block(number: int, group: int, i: int, part: str) -> tuple[str, str]:
    block = 'expanded_conv' if number == 1 else f'block_{number - 1}'
    name = f'{block}_{ {"expand": "expand", "dwise": "depthwise", "linear": "project"}[part] }'
    return name, f'{name}_BN'


_TORCHVISION = 'torchvision: BSD-3-Clause'
_TIMM = 'timm: Apache-2.0 for most of its weights; the card of each says'
SOURCES = (
    Source('torchvision', 'VGG16', _TORCHVISION, TORCH,
           _vgg16(lambda i: f'features.{_VGG16_FEATURES[i]}', ('classifier.0', 'classifier.3')), ('classifier.6', '')),
    Source('timm', 'VGG16', _TIMM, TORCH,
           _vgg16(lambda i: f'features.{_VGG16_FEATURES[i]}', ('pre_logits.fc1', 'pre_logits.fc2')), ('head.fc', '')),
    Source('Keras', 'VGG16', 'Keras, after the Visual Geometry Group, Oxford: CC BY 4.0', KERAS_CAFFE,
           _vgg16(lambda i: VGG16_CONVOLUTIONS[i].replace('conv', 'block').replace('_', '_conv'), ('fc1', 'fc2')),
           ('predictions', ''), keras=True),
    Source('torchvision or timm', 'ResNet-50', f'{_TORCHVISION}. {_TIMM}', TORCH,
           _resnet(_torch_branch, ('conv1', 'bn1')), ('fc', '')),
    Source('Keras', 'ResNet-50', "Keras, after ResNet's authors: MIT", KERAS_CAFFE,
           _resnet(_keras_branch, ('conv1_conv', 'conv1_bn')), ('predictions', ''), 1.001e-5, True, True),
    Source('Keras before 2.2', 'ResNet-50', "Keras, after ResNet's authors: MIT", KERAS_CAFFE,
           _resnet(_old_keras_branch, ('conv1', 'bn_conv1')), ('fc1000', ''), 1e-3, True, True),
    Source('torchvision', 'MobileNet-v2', _TORCHVISION, TORCH,
           _mobilenet(_torchvision_block, ('features.0.0', 'features.0.1'), ('features.18.0', 'features.18.1')),
           ('classifier.1', '')),
    Source('timm', 'MobileNet-v2', _TIMM, TORCH,
           _mobilenet(_timm_block, ('conv_stem', 'bn1'), ('conv_head', 'bn2')), ('classifier', '')),
    Source('Keras', 'MobileNet-v2', 'Keras: Apache-2.0', KERAS_TF,
           _mobilenet(_keras_block, ('Conv1', 'bn_Conv1'), ('Conv_1', 'Conv_1_bn')), ('predictions', ''), 1e-3, True),
)  # fmt: skip


def source_of(names: set[str], path: str) -> Source:
    """Whose file of which net it is, by the names of its arrays. Raises WeightsError with what was looked for."""
    layers = _layers_of(names)
    found = max(SOURCES, key=lambda source: len(set(_names(source)) & layers) / len(set(_names(source))))
    wanted = set(_names(found))
    if len(wanted & layers) < 0.5 * len(wanted):
        shown = ', '.join(sorted(names)[:5])
        known = ', '.join(f'{s.net} of {s.program}' for s in SOURCES)
        raise WeightsError(
            f'{path}: its arrays are called {shown}, ...: not one of {known}, nor are they called <layer>/0 and '
            '<layer>/1, as those of a net here are in an .npz'
        )
    where = f'{path}: it looks like {found.net} of {found.program}'
    missing = sorted(
        wanted - layers - {'fc1', 'fc2', 'classifier.0', 'classifier.3', 'pre_logits.fc1', 'pre_logits.fc2'}
    )
    if missing:
        raise WeightsError(f'{where}, but lacks {", ".join(missing[:5])}{", ..." if len(missing) > 5 else ""}')
    deeper = sorted(name for name in layers - wanted - {found.classifier[0]} if _like(name, wanted))
    if deeper:
        raise WeightsError(f'{where}, but has {", ".join(deeper[:5])} besides: another net of that family?')
    return found


def _names(source: Source) -> Iterator[str]:
    return (name for pair in source.layers.values() for name in pair if name)


def _layers_of(names: set[str]) -> set[str]:
    return {name.rpartition('/')[0] or name.rpartition('.')[0] for name in names}


def _like(name: str, wanted: set[str]) -> bool:
    """Whether a layer that is not wanted is of the same make as wanted ones: another block, a BatchNorm more."""
    first = name.split('.')[0].split('_')[0]
    return first in {w.split('.')[0].split('_')[0] for w in wanted}


def layer_arrays(source: Source, arrays: dict[str, np.ndarray], pair: tuple[str, str]) -> tuple:
    """(weights in Caffe's layout, bias or None, BatchNorm's (gamma, beta, mean, variance) or None) of a layer."""
    mark = '/' if source.keras else '.'
    name, norm = pair
    keys = ('kernel', 'depthwise_kernel') if source.keras else ('weight',)
    weights = next((arrays[f'{name}{mark}{key}'] for key in keys if f'{name}{mark}{key}' in arrays), None)
    if weights is None:
        raise WeightsError(f'{name} has no {keys[0]}')
    if source.keras:
        weights = _from_keras(weights, 'depthwise' in name)
    statistics = None
    if norm:
        wanted = ('gamma', 'beta', 'moving_mean', 'moving_variance') if source.keras else (
            'weight', 'bias', 'running_mean', 'running_var')  # fmt: skip
        lacking = [key for key in wanted if f'{norm}{mark}{key}' not in arrays]
        if lacking:
            raise WeightsError(f'{norm} has no {", ".join(lacking)}')
        statistics = tuple(arrays[f'{norm}{mark}{key}'] for key in wanted)
    return weights, arrays.get(f'{name}{mark}bias'), statistics


def _from_keras(kernel: np.ndarray, depthwise: bool) -> np.ndarray:
    """Height, width, inputs, outputs -> outputs, inputs, height, width."""
    if kernel.ndim == 4:
        return kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
    return kernel.T
