"""Nets of `detection_nets` at a small width, with weights from a seed: as those of ImageNet would be, all is alive."""

import dataclasses

import numpy as np

import caffe
from detection_nets.files import DATA_SETS, backbone_of, net_files


def write_net(folder, net, method, num_classes, width=1 / 16, learned=128):
    """Writes a method's three prototxts into `folder`; returns the solver's path."""
    data = dataclasses.replace(DATA_SETS['pascal_voc'], num_classes=num_classes)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in net_files(str(folder), backbone_of(net, method, width), method, data, learned).items():
        (folder / name).write_text(text)
    return str(folder / 'solver.prototxt')


def save_seeded(prototxt, path, seed=0):
    """Weights for the net to test with, `prototxt`: He's deviations, and BatchNorm that changes nothing much."""
    net = caffe.Net(str(prototxt), caffe.TEST)
    kinds = {name: net.layers[i].type for i, name in enumerate(net._layer_names)}
    rng = np.random.default_rng(seed)
    for name, blobs in net.params.items():
        if kinds[name] == 'BatchNorm':
            mean, variance, factor = (blob.data for blob in blobs)
            mean[...], variance[...], factor[...] = rng.normal(0, 0.1, mean.shape), rng.uniform(1, 2, mean.shape), 1
        elif kinds[name] == 'Scale':
            blobs[0].data[...] = 0.3 if name.endswith('2c') else 1
        elif not blobs[0].data.any():
            weights = blobs[0].data
            weights[...] = rng.normal(0, np.sqrt(2 / weights[0].size), weights.shape)
            weights *= 0.3 if name.endswith('2c') else 1
    net.save(str(path))
    return str(path)
