"""Nets of BVLC's model zoo, in their published settings, and a ResNet-50 of a quarter of the width.

Each function gives the text of a deploy.prototxt. LeNet: LeCun et al. 1998, examples/mnist/lenet.prototxt. CaffeNet and
AlexNet: Krizhevsky et al. 2012, models/bvlc_reference_caffenet and bvlc_alexnet. GoogLeNet: Szegedy et al. 2015,
table 1, models/bvlc_googlenet. ResNet-50: He et al. 2016, table 1. Of the forks: SSD and MobileNet-SSD.
"""

from __future__ import annotations

from caffe import layers as L
from caffe import params as P
from caffe.net_spec import NetSpec


def _input(n: NetSpec, *shape: int) -> None:
    n.data = L.Input(shape={'dim': list(shape)})


def _conv(n: NetSpec, name: str, bottom, num: int, size: int, relu: str = '', **options):
    top = n[name] = L.Convolution(bottom, num_output=num, kernel_size=size, **options)
    if relu:
        top = n[relu] = L.ReLU(top, in_place=True)
    return top


def _max(bottom, size: int, stride: int, **options):
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=size, stride=stride, **options)


def lenet() -> str:
    """28 x 28 grey images, 10 digits."""
    n = NetSpec()
    _input(n, 2, 1, 28, 28)
    n.pool1 = _max(_conv(n, 'conv1', n.data, 20, 5), 2, 2)
    n.pool2 = _max(_conv(n, 'conv2', n.pool1, 50, 5), 2, 2)
    n.ip1 = L.InnerProduct(n.pool2, num_output=500)
    n.relu1 = L.ReLU(n.ip1, in_place=True)
    n.ip2 = L.InnerProduct(n.relu1, num_output=10)
    n.prob = L.Softmax(n.ip2)
    return str(n.to_proto())


def caffenet(norm_first: bool = False) -> str:
    """CaffeNet; AlexNet, which normalizes before it pools, with `norm_first`."""
    n = NetSpec()
    _input(n, 2, 3, 227, 227)

    def norm_and_pool(bottom, k: int):
        def norm(x):
            n[f'norm{k}'] = L.LRN(x, local_size=5, alpha=1e-4, beta=0.75)
            return n[f'norm{k}']

        def pool(x):
            n[f'pool{k}'] = _max(x, 3, 2)
            return n[f'pool{k}']

        return pool(norm(bottom)) if norm_first else norm(pool(bottom))

    top = norm_and_pool(_conv(n, 'conv1', n.data, 96, 11, 'relu1', stride=4), 1)
    top = norm_and_pool(_conv(n, 'conv2', top, 256, 5, 'relu2', pad=2, group=2), 2)
    top = _conv(n, 'conv3', top, 384, 3, 'relu3', pad=1)
    top = _conv(n, 'conv4', top, 384, 3, 'relu4', pad=1, group=2)
    top = n.pool5 = _max(_conv(n, 'conv5', top, 256, 3, 'relu5', pad=1, group=2), 3, 2)
    for k in (6, 7):
        n[f'fc{k}'] = L.InnerProduct(top, num_output=4096)
        n[f'relu{k}'] = L.ReLU(n[f'fc{k}'], in_place=True)
        top = n[f'drop{k}'] = L.Dropout(n[f'relu{k}'], in_place=True, dropout_ratio=0.5)
    n.fc8 = L.InnerProduct(top, num_output=1000)
    n.prob = L.Softmax(n.fc8)
    return str(n.to_proto())


# Of each inception: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, projection of the pooled; after which a pooling follows
_INCEPTIONS = {
    '3a': (64, 96, 128, 16, 32, 32), '3b': (128, 128, 192, 32, 96, 64),
    '4a': (192, 96, 208, 16, 48, 64), '4b': (160, 112, 224, 24, 64, 64), '4c': (128, 128, 256, 24, 64, 64),
    '4d': (112, 144, 288, 32, 64, 64), '4e': (256, 160, 320, 32, 128, 128),
    '5a': (256, 160, 320, 32, 128, 128), '5b': (384, 192, 384, 48, 128, 128),
}  # fmt: skip


def googlenet() -> str:
    """GoogLeNet without its auxiliary classifiers, as it is deployed."""
    n = NetSpec()
    _input(n, 1, 3, 224, 224)
    top = _max(_conv(n, 'conv1/7x7_s2', n.data, 64, 7, 'conv1/relu_7x7', stride=2, pad=3), 3, 2)
    n['pool1/3x3_s2'] = top
    n['pool1/norm1'] = L.LRN(top, local_size=5, alpha=1e-4, beta=0.75)
    top = _conv(n, 'conv2/3x3_reduce', n['pool1/norm1'], 64, 1, 'conv2/relu_3x3_reduce')
    top = _conv(n, 'conv2/3x3', top, 192, 3, 'conv2/relu_3x3', pad=1)
    n['conv2/norm2'] = L.LRN(top, local_size=5, alpha=1e-4, beta=0.75)
    top = n['pool2/3x3_s2'] = _max(n['conv2/norm2'], 3, 2)
    for name, (one, reduce3, three, reduce5, five, projection) in _INCEPTIONS.items():
        p = f'inception_{name}/'

        def conv(kind: str, bottom, num: int, size: int, p=p):
            return _conv(n, p + kind, bottom, num, size, f'{p}relu_{kind}', pad=size // 2)

        n[p + 'pool'] = _max(top, 3, 1, pad=1)
        parts = [
            conv('1x1', top, one, 1),
            conv('3x3', conv('3x3_reduce', top, reduce3, 1), three, 3),
            conv('5x5', conv('5x5_reduce', top, reduce5, 1), five, 5),
            conv('pool_proj', n[p + 'pool'], projection, 1),
        ]
        top = n[p + 'output'] = L.Concat(*parts)
        if name in ('3b', '4e'):
            top = n[f'pool{int(name[0])}/3x3_s2'] = _max(top, 3, 2)
    n['pool5/7x7_s1'] = L.Pooling(top, pool=P.Pooling.AVE, kernel_size=7, stride=1)
    n['pool5/drop_7x7_s1'] = L.Dropout(n['pool5/7x7_s1'], in_place=True, dropout_ratio=0.4)
    n['loss3/classifier'] = L.InnerProduct(n['pool5/drop_7x7_s1'], num_output=1000)
    n.prob = L.Softmax(n['loss3/classifier'])
    return str(n.to_proto())


def resnet50(width: int = 16) -> str:
    """ResNet-50 with BatchNorm and Scale in place; `width` is 64 in the paper. It ends in a global AVE pooling."""
    n = NetSpec()
    _input(n, 1, 3, 224, 224)

    def normalized(name: str, bottom, num: int, size: int, stride: int = 1, relu: bool = True):
        top = _conv(n, name, bottom, num, size, stride=stride, pad=size // 2, bias_term=False)
        top = n[f'bn_{name}'] = L.BatchNorm(top, in_place=True)
        top = n[f'scale_{name}'] = L.Scale(top, bias_term=True, in_place=True)
        if relu:
            top = n[f'{name}_relu'] = L.ReLU(top, in_place=True)
        return top

    top = n.pool1 = _max(normalized('conv1', n.data, width, 7, 2), 3, 2)
    for stage, blocks in enumerate((3, 4, 6, 3), start=2):
        inner = width * 2 ** (stage - 2)
        for block in range(blocks):
            name, stride = f'res{stage}{"abcdef"[block]}', 2 if stage > 2 and block == 0 else 1
            short = normalized(f'{name}_branch1', top, 4 * inner, 1, stride, relu=False) if block == 0 else top
            long = normalized(f'{name}_branch2a', top, inner, 1, stride)
            long = normalized(f'{name}_branch2b', long, inner, 3)
            long = normalized(f'{name}_branch2c', long, 4 * inner, 1, relu=False)
            n[name] = L.Eltwise(short, long)
            top = n[f'{name}_relu'] = L.ReLU(n[name], in_place=True)
    n.pool5 = L.Pooling(top, pool=P.Pooling.AVE, global_pooling=True)
    n.fc = L.InnerProduct(n.pool5, num_output=100)
    n.prob = L.Softmax(n.fc)
    return str(n.to_proto())


def _mbox(n: NetSpec, sources, classes: int, size: int, pad: int) -> None:
    """SSD's heads: codes, scores and prior boxes of each of the maps `sources`, one after another.

    sources: (name of the map, name to give its layers, options of its prior boxes, how many each cell has).
    """
    parts: dict[str, list] = {'loc': [], 'conf': [], 'priorbox': []}
    for source, name, options, count in sources:
        for what, width in (('loc', 4), ('conf', classes)):
            top = n[f'{name}_mbox_{what}'] = L.Convolution(
                n[source], num_output=count * width, kernel_size=size, pad=pad, weight_filler={'type': 'xavier'}
            )
            top = n[f'{name}_mbox_{what}_perm'] = L.Permute(top, order=[0, 2, 3, 1])
            n[f'{name}_mbox_{what}_flat'] = L.Flatten(top, axis=1)
            parts[what].append(n[f'{name}_mbox_{what}_flat'])
        variance = [0.1, 0.1, 0.2, 0.2]
        n[f'{name}_mbox_priorbox'] = L.PriorBox(
            n[source], n.data, flip=True, clip=False, variance=variance, offset=0.5, **options
        )
        parts['priorbox'].append(n[f'{name}_mbox_priorbox'])
    for what, tops in parts.items():
        n[f'mbox_{what}'] = L.Concat(*tops, axis=2 if what == 'priorbox' else 1)


def _detections(n: NetSpec, classes: int, top_k: int, keep_top_k: int, confidence: float) -> None:
    n.mbox_conf_reshape = L.Reshape(n.mbox_conf, shape={'dim': [0, -1, classes]})
    n.mbox_conf_softmax = L.Softmax(n.mbox_conf_reshape, axis=2)
    n.mbox_conf_flatten = L.Flatten(n.mbox_conf_softmax, axis=1)
    n.detection_out = L.DetectionOutput(
        n.mbox_loc,
        n.mbox_conf_flatten,
        n.mbox_priorbox,
        num_classes=classes,
        share_location=True,
        background_label_id=0,
        nms_param={'nms_threshold': 0.45, 'top_k': top_k},
        code_type=P.PriorBox.CENTER_SIZE,
        keep_top_k=keep_top_k,
        confidence_threshold=confidence,
    )


def ssd300(classes: int = 21) -> str:
    """SSD of 300 x 300 pixels on VGG16, for VOC (Liu et al. 2016; weiliu89/caffe, examples/ssd/ssd_pascal.py)."""
    n = NetSpec()
    _input(n, 1, 3, 300, 300)
    filled = {'weight_filler': {'type': 'msra'}}
    top = n.data
    for k, (repeat, width) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), start=1):
        for i in range(1, repeat + 1):
            top = _conv(n, f'conv{k}_{i}', top, width, 3, f'relu{k}_{i}', pad=1, **filled)
        top = n[f'pool{k}'] = _max(top, 2, 2) if k < 5 else _max(top, 3, 1, pad=1)
    top = _conv(n, 'fc6', top, 1024, 3, 'relu6', pad=6, dilation=6, **filled)
    top = _conv(n, 'fc7', top, 1024, 1, 'relu7', **filled)
    for k, (narrow, wide, stride) in enumerate(((256, 512, 2), (128, 256, 2), (128, 256, 1), (128, 256, 1)), start=6):
        top = _conv(n, f'conv{k}_1', top, narrow, 1, f'conv{k}_1_relu', **filled)
        pad = {'pad': 1, 'stride': 2} if stride == 2 else {}
        top = _conv(n, f'conv{k}_2', top, wide, 3, f'conv{k}_2_relu', **pad, **filled)
    n.conv4_3_norm = L.Normalize(
        n.conv4_3, across_spatial=False, channel_shared=False, scale_filler={'type': 'constant', 'value': 20}
    )
    maps = ('conv4_3_norm', 'fc7', 'conv6_2', 'conv7_2', 'conv8_2', 'conv9_2')
    sizes, steps = (30, 60, 111, 162, 213, 264, 315), (8, 16, 32, 64, 100, 300)
    sources = []
    for i, name in enumerate(maps):
        ratios = [2] if i in (0, 4, 5) else [2, 3]
        options = {'min_size': sizes[i], 'max_size': sizes[i + 1], 'aspect_ratio': ratios, 'step': steps[i]}
        sources.append((name, name, options, 2 + 2 * len(ratios)))
    _mbox(n, sources, classes, size=3, pad=1)
    _detections(n, classes, top_k=400, keep_top_k=200, confidence=0.01)
    return str(n.to_proto())


def mobilenet_ssd(classes: int = 21) -> str:
    """MobileNet-SSD of 300 x 300 pixels, batch normalisation merged in (chuanqi305/MobileNet-SSD, deploy.prototxt)."""
    n = NetSpec()
    _input(n, 1, 3, 300, 300)
    filled = {'weight_filler': {'type': 'msra'}}
    top = _conv(n, 'conv0', n.data, 32, 3, 'conv0/relu', pad=1, stride=2, **filled)
    width = 32
    separable = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for k, (wide, stride) in enumerate(separable, start=1):
        top = _conv(n, f'conv{k}/dw', top, width, 3, f'conv{k}/dw/relu', pad=1, stride=stride, group=width, **filled)
        top = _conv(n, f'conv{k}', top, wide, 1, f'conv{k}/relu', **filled)
        width = wide
    for k, (narrow, wide) in enumerate(((256, 512), (128, 256), (128, 256), (64, 128)), start=14):
        top = _conv(n, f'conv{k}_1', top, narrow, 1, f'conv{k}_1/relu', **filled)
        top = _conv(n, f'conv{k}_2', top, wide, 3, f'conv{k}_2/relu', pad=1, stride=2, **filled)
    maps = ('conv11', 'conv13', 'conv14_2', 'conv15_2', 'conv16_2', 'conv17_2')
    sizes = (60, 105, 150, 195, 240, 285, 300)
    sources = [('conv11', 'conv11', {'min_size': 60, 'aspect_ratio': [2]}, 3)]
    for i, name in enumerate(maps[1:], start=1):
        options = {'min_size': sizes[i], 'max_size': sizes[i + 1], 'aspect_ratio': [2, 3]}
        sources.append((name, name, options, 6))
    _mbox(n, sources, classes, size=1, pad=0)
    _detections(n, classes, top_k=100, keep_top_k=100, confidence=0.25)
    return str(n.to_proto())
