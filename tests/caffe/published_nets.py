"""Nets of BVLC's model zoo, in their published settings, and a ResNet-50 of a quarter of the width.

Each function gives the text of a deploy.prototxt. LeNet: LeCun et al. 1998, examples/mnist/lenet.prototxt. CaffeNet and
AlexNet: Krizhevsky et al. 2012, models/bvlc_reference_caffenet and bvlc_alexnet. GoogLeNet: Szegedy et al. 2015,
table 1, models/bvlc_googlenet. ResNet-50: He et al. 2016, table 1.
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
