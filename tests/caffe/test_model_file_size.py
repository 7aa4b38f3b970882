"""Big model files: VGG16's 528 MB are read at the speed of the file, without a second copy of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_work import vgg16

import caffe

# Run in a process of its own, whose peak of memory is its own. Prints [seconds to read the bytes, seconds to
# read the model into a net, bytes by which the peak grew meanwhile]; each time the best of three.
SCRIPT = """
import json, resource, sys, time
import caffe

def seconds(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def read_bytes():
    with open('vgg16.caffemodel', 'rb') as file:
        file.read()

net = caffe.Net('vgg16.prototxt', caffe.TEST)
before = peak()
model = min(seconds(lambda: net.copy_from('vgg16.caffemodel')) for _ in range(3))
grown = peak() - before
assert float(net.params['fc0'][0].data[-1, -1]) == 0.5
print(json.dumps([min(seconds(read_bytes) for _ in range(3)), model, grown]))
"""


@pytest.mark.slow
def test_reading_vgg16_takes_twice_the_time_of_its_bytes_and_1_2_times_its_size_at_most(tmp_path):
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
    read_bytes, read_model, grown = json.loads(done.stdout)
    print(f'bytes {read_bytes:.2f} s, model {read_model:.2f} s, memory {grown / size:.2f} of the size')
    assert read_model <= 2 * read_bytes
    assert grown <= 1.2 * size
