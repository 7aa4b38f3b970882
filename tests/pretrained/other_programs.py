"""What torchvision and Keras compute, written out in plain torch, and their files with weights from a seed.

Arrays go by torchvision's names; `keras_file` writes the same numbers as Keras does.
"""

import h5py
import numpy as np
import torch
import torch.nn.functional as F

RESNET = ((1, 3, 64, 1), (2, 4, 128, 2), (3, 6, 256, 2), (4, 3, 512, 2))
MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
VGG16 = ((0, 64), (2, 64), (5, 128), (7, 128), (10, 256), (12, 256), (14, 256), (17, 512), (19, 512), (21, 512),
         (24, 512), (26, 512), (28, 512))  # fmt: skip


class Seeded(dict):
    """Arrays that come to be when they are first asked for by `conv` and `norm`."""

    def __init__(self, seed=0):
        self._rng = np.random.default_rng(seed)

    def array(self, name, values):
        return torch.from_numpy(self.setdefault(name, values().astype(np.float32)))

    def conv(self, name, x, outputs, kernel=1, stride=1, pad=0, groups=1, bias=False):
        shape = (outputs, x.shape[1] // groups, kernel, kernel)
        scale = np.sqrt(2 / np.prod(shape[1:]))
        weights = self.array(f'{name}.weight', lambda: self._rng.normal(0, scale, shape))
        shift = self.array(f'{name}.bias', lambda: self._rng.normal(0, 0.1, outputs)) if bias else None
        return F.conv2d(x, weights, shift, stride, pad, groups=groups)

    def norm(self, name, x, eps=1e-5, gain=1.0):
        count, rng = x.shape[1], self._rng
        gamma = self.array(f'{name}.weight', lambda: rng.uniform(0.5, 1.5, count) * gain)
        beta = self.array(f'{name}.bias', lambda: rng.normal(0, 0.2, count))
        mean = self.array(f'{name}.running_mean', lambda: rng.normal(0, 0.2, count))
        variance = self.array(f'{name}.running_var', lambda: rng.uniform(0.5, 2, count))
        return F.batch_norm(x, mean, variance, gamma, beta, eps=eps)

    def linear(self, name, x, outputs):
        weights = self.array(f'{name}.weight', lambda: self._rng.normal(0, 0.02, (outputs, x.shape[1])))
        return F.linear(x, weights, self.array(f'{name}.bias', lambda: self._rng.normal(0, 0.1, outputs)))


def resnet50(arrays, x, keras=False):
    """torchvision's ResNet-50: halves in the 3x3 convolutions. Keras's, the authors': in the first 1x1, with biases.

    Keras's pooling is here that of the authors' prototxt, whose windows begin one pixel later. Returns probabilities.
    """
    eps = 1.001e-5 if keras else 1e-5
    x = F.relu(arrays.norm('bn1', arrays.conv('conv1', x, 64, 7, 2, 3, bias=keras), eps))
    x = F.max_pool2d(x, 3, 2, 0, ceil_mode=True) if keras else F.max_pool2d(x, 3, 2, 1)
    for stage, blocks, planes, stride in RESNET:
        for i in range(blocks):
            at, step = f'layer{stage}.{i}', stride if i == 0 else 1
            first, second = (step, 1) if keras else (1, step)
            y = F.relu(arrays.norm(f'{at}.bn1', arrays.conv(f'{at}.conv1', x, planes, 1, first, bias=keras), eps))
            y = F.relu(arrays.norm(f'{at}.bn2', arrays.conv(f'{at}.conv2', y, planes, 3, second, 1, bias=keras), eps))
            y = arrays.norm(f'{at}.bn3', arrays.conv(f'{at}.conv3', y, 4 * planes, bias=keras), eps, 0.3)
            if i == 0:
                x = arrays.conv(f'{at}.downsample.0', x, 4 * planes, 1, step, bias=keras)
                x = arrays.norm(f'{at}.downsample.1', x, eps)
            x = F.relu(x + y)
    return torch.softmax(arrays.linear('fc', x.mean((2, 3)), 1000), 1)


def mobilenet_v2(arrays, x, eps=1e-5):
    """torchvision's MobileNetV2; returns probabilities."""
    x = F.relu6(arrays.norm('features.0.1', arrays.conv('features.0.0', x, 32, 3, 2, 1), eps))
    number = 0
    for factor, outputs, blocks, stride in MOBILENET:
        for i in range(blocks):
            number += 1
            at, inner, y, k = f'features.{number}.conv', factor * x.shape[1], x, 0
            if factor > 1:
                y, k = F.relu6(arrays.norm(f'{at}.0.1', arrays.conv(f'{at}.0.0', x, inner), eps)), 1
            step = stride if i == 0 else 1
            y = arrays.conv(f'{at}.{k}.0', y, inner, 3, step, 1, groups=inner)
            y = F.relu6(arrays.norm(f'{at}.{k}.1', y, eps))
            y = arrays.norm(f'{at}.{k + 2}', arrays.conv(f'{at}.{k + 1}', y, outputs), eps, 0.5)
            x = x + y if step == 1 and x.shape[1] == outputs else y
    x = F.relu6(arrays.norm('features.18.1', arrays.conv('features.18.0', x, 1280), eps))
    return torch.softmax(arrays.linear('classifier.1', x.mean((2, 3)), 1000), 1)


def vgg16_trunk(arrays, x):
    """torchvision's VGG16 up to the last convolution's ReLU."""
    before = 64
    for number, outputs in VGG16:
        x = F.max_pool2d(x, 2, 2) if outputs != before or number in (24,) else x
        x, before = F.relu(arrays.conv(f'features.{number}', x, outputs, 3, 1, 1, bias=True)), outputs
    return x


def safetensors_file(path, arrays):
    """As the safetensors library writes float32."""
    import json

    header, place = {'__metadata__': {'format': 'pt'}}, 0
    for name, array in arrays.items():
        header[name] = {'dtype': 'F32', 'shape': list(array.shape), 'data_offsets': [place, place + array.nbytes]}
        place += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, 'little') + text + b''.join(a.tobytes() for a in arrays.values()))
    return path


def keras_file(path, arrays, layers):
    """`arrays` as Keras writes them. layers: torchvision's name -> Keras's, of convolutions, BatchNorms and dense."""
    parts = {'weight': 'gamma', 'bias': 'beta', 'running_mean': 'moving_mean', 'running_var': 'moving_variance'}
    with h5py.File(path, 'w') as file:
        for name, array in arrays.items():
            torch_layer, _, part = name.rpartition('.')
            if torch_layer not in layers:
                continue
            layer = layers[torch_layer]
            norm = f'{torch_layer}.running_mean' in arrays
            key = parts[part] if norm else {'weight': 'kernel', 'bias': 'bias'}[part]
            if array.ndim == 4:
                depthwise = array.shape[1] == 1
                key = 'depthwise_kernel' if depthwise else key
                array = array.transpose(2, 3, 0, 1) if depthwise else array.transpose(2, 3, 1, 0)
            elif array.ndim == 2:
                array = array.T
            file[f'model_weights/{layer}/{layer}/{key}:0'] = array
    return path


def keras_resnet_names():
    """torchvision's layers -> Keras's."""
    names = {'conv1': 'conv1_conv', 'bn1': 'conv1_bn', 'fc': 'predictions'}
    for stage, blocks, _, _ in RESNET:
        for i in range(blocks):
            at, there = f'layer{stage}.{i}', f'conv{stage + 1}_block{i + 1}'
            for k in (1, 2, 3):
                names |= {f'{at}.conv{k}': f'{there}_{k}_conv', f'{at}.bn{k}': f'{there}_{k}_bn'}
            if i == 0:
                names |= {f'{at}.downsample.0': f'{there}_0_conv', f'{at}.downsample.1': f'{there}_0_bn'}
    return names


def keras_mobilenet_names():
    """torchvision's layers -> Keras's."""
    names = {
        'features.0.0': 'Conv1', 'features.0.1': 'bn_Conv1', 'features.18.0': 'Conv_1', 'features.18.1': 'Conv_1_bn',
        'classifier.1': 'predictions',
    }  # fmt: skip
    for number in range(1, 18):
        at, block = f'features.{number}.conv', 'expanded_conv' if number == 1 else f'block_{number - 1}'
        places = [('depthwise', '0.0', '0.1'), ('project', '1', '2')]
        if number > 1:
            places = [('expand', '0.0', '0.1'), ('depthwise', '1.0', '1.1'), ('project', '2', '3')]
        for part, conv, norm in places:
            names |= {f'{at}.{conv}': f'{block}_{part}', f'{at}.{norm}': f'{block}_{part}_BN'}
    return names


def seen_by_torch(pixels):
    """RGB images 0 ... 255 (N, 3, H, W) as torchvision's nets take them."""
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (torch.from_numpy(pixels) / 255 - mean) / std


def seen_by_keras(pixels):
    """RGB images as Keras's ResNet50 and VGG16 take them: its preprocess_input in mode 'caffe'."""
    return torch.from_numpy(pixels[:, ::-1].copy()) - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
