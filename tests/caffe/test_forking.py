"""A process with a net may fork: the child computes, though torch's threads are not in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import caffe

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 3, 64, 64] } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
        inner_product_param { num_output: 256 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Reduction" bottom: "ip" top: "sum" loss_weight: 1 }
"""
PASSES_IN_A_CHILD = """
import os, numpy, torch, caffe
torch.set_num_threads(4)
net = caffe.Net('net.prototxt', caffe.TRAIN)
net.blobs['data'].data[...] = numpy.linspace(-1, 1, net.blobs['data'].count).reshape(net.blobs['data'].shape)
def passes():
    net.clear_param_diffs()
    loss = net.forward()['sum'].item()
    net.backward()
    return loss, float(numpy.abs(net.params['conv'][0].diff).sum())
before = passes()
if os.fork() == 0:
    numpy.testing.assert_allclose(passes(), before, rtol=1e-4)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert torch.get_num_threads() == 4 and passes() == before
"""
READING_AHEAD = """
import os, sys
from caffe.layers.prefetch import Prefetch
ahead = Prefetch(lambda: 1, 3)
ahead.next()
if os.fork() == 0:
    try:
        ahead.next()
    except RuntimeError as error:
        print(error, flush=True)
    sys.exit(0)
os.wait()
"""


def run(code, folder):
    environment = os.environ | {'PYTHONPATH': str(Path(caffe.__file__).parent.parent)}
    environment.pop('OMP_NUM_THREADS', None)
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_forward_and_backward_in_a_forked_child(tmp_path):
    (tmp_path / 'net.prototxt').write_text(NET)
    run(PASSES_IN_A_CHILD, tmp_path)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_a_data_layer_that_read_ahead_says_what_it_lacks_and_the_child_ends(tmp_path):
    assert 'make the net after the fork' in run(READING_AHEAD, tmp_path)
