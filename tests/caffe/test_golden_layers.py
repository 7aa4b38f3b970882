"""Every one-layer net recorded on the original Caffe gives the recorded outputs and gradients (tests/golden)."""

from pathlib import Path

import numpy as np
import pytest

import caffe

CASES = sorted((Path(__file__).parent.parent / 'golden' / 'layers').glob('*.prototxt'))


@pytest.mark.parametrize('path', CASES, ids=lambda p: p.stem)
def test_layer_as_recorded(path):
    gold = dict(np.load(path.with_suffix('.npz')))
    phase = getattr(caffe, path.read_text().splitlines()[0].split()[-1])
    net = caffe.Net(str(path), phase)
    params = net.params.get('layer', [])
    for key, value in gold.items():
        kind, name = key.split('/')
        if kind == 'in':
            net.blobs[name].data[...] = value
        elif kind == 'param':
            params[int(name)].data[...] = value
    net.forward()
    for key, value in gold.items():
        if key.startswith('out/'):
            assert_close(net.blobs[key[4:]].data, value, key)
    if not any(key.startswith(('bottomdiff/', 'paramdiff/')) for key in gold):
        return
    for key, value in gold.items():
        if key.startswith('topdiff/'):
            net.blobs[key[8:]].diff[...] = value
    net.backward()
    for key, value in gold.items():
        kind, name = key.split('/')
        if kind == 'bottomdiff':
            assert_close(net.blobs[name].diff, value, key)
        elif kind == 'paramdiff':
            assert_close(params[int(name)].diff, value, key)


def assert_close(have, want, what):
    assert have.shape == want.shape, what
    np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5, err_msg=what)
