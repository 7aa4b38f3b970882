"""Big model files: VGG16's 528 MB are read in whole blobs, not number by number, without a second copy of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_work import vgg16

import caffe

# Run in a process of its own, whose peak of memory is its own. Prints [calls of functions while the model is read into
# a net, bytes by which the peak grew meanwhile].
SCRIPT = """
import json, resource, sys
import caffe

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

calls = 0
def count(frame, event, argument):
    global calls
    calls += event in ('call', 'c_call')

net = caffe.Net('vgg16.prototxt', caffe.TEST)
before = peak()
sys.setprofile(count)
net.copy_from('vgg16.caffemodel')
sys.setprofile(None)
grown = peak() - before
assert float(net.params['fc0'][0].data[-1, -1]) == 0.5
print(json.dumps([calls, grown]))
"""


@pytest.mark.slow
def test_reading_vgg16_takes_no_call_a_number_and_1_2_times_its_size_at_most(tmp_path):
    (tmp_path / 'vgg16.prototxt').write_text('\n'.join(vgg16()))
    net = caffe.Net(str(tmp_path / 'vgg16.prototxt'), caffe.TEST)
    net.params['fc0'][0].data[...] = 0.5
    net.save(str(tmp_path / 'vgg16.caffemodel'))
    size = (tmp_path / 'vgg16.caffemodel').stat().st_size
    assert size > 528e6
    del net
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(Path(caffe.__file__).parent.parent), 'GLOG_minloglevel': '2'},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    calls, grown = json.loads(done.stdout)
    print(f'{calls} calls, memory {grown / size:.2f} of the size')
    assert calls < 100_000  # of 138 million numbers in 32 blobs
    assert grown <= 1.2 * size
