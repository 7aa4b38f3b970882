"""Data layers read ahead in a background thread, and give what they would give without it."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

import caffe
from caffe.layer import LayerError
from caffe.layers.prefetch import Prefetch

RNG = np.random.default_rng(0)


def workers():
    return {t for t in threading.enumerate() if t.name == 'caffe-prefetch'}


class Numbers:
    """0, 1, 2, ...; `made` says how far it is, and number `bad` cannot be made."""

    def __init__(self, bad=None):
        self.made = 0
        self.bad = bad
        self.threads = set()

    def __call__(self):
        self.threads.add(threading.get_ident())
        number = self.made
        self.made += 1
        if number == self.bad:
            raise ValueError(f'no number {number}')
        return number


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def test_results_come_in_order_from_one_other_thread():
    make = Numbers()
    ahead = Prefetch(make, 3)
    assert [ahead.next() for _ in range(50)] == list(range(50))
    assert len(make.threads) == 1 and threading.get_ident() not in make.threads


def test_nothing_is_made_before_the_first_is_asked_for_then_depth_ahead():
    make = Numbers()
    ahead = Prefetch(make, 3)
    time.sleep(0.02)
    assert make.made == 0
    ahead.next()
    wait_until(lambda: make.made == 1 + 3 + 1)  # one taken, three wait, one in the thread's hand
    time.sleep(0.02)
    assert make.made == 5


def test_an_error_is_raised_where_its_turn_is_and_the_next_follow():
    ahead = Prefetch(Numbers(bad=2), 4)
    assert [ahead.next(), ahead.next()] == [0, 1]
    with pytest.raises(ValueError, match='no number 2'):
        ahead.next()
    assert ahead.next() == 3


def test_the_thread_ends_with_the_object():
    before = workers()
    ahead = Prefetch(Numbers(), 2)
    ahead.next()
    (thread,) = workers() - before
    del ahead
    wait_until(lambda: not thread.is_alive())


def test_an_object_that_dies_while_its_thread_s_locks_are_held_hangs_nothing():
    """The garbage collector finds it in threading.enumerate(), say, under the lock that a thread needs to end."""
    ahead = Prefetch(Numbers(), 2)
    ahead.next()
    with threading._active_limbo_lock, ahead._results.mutex:
        del ahead


# -- the data layers


@pytest.fixture
def images(tmp_path):
    """Ten images of 8x8, image i labelled i, and the list of them."""
    for i in range(10):
        cv2.imwrite(str(tmp_path / f'{i}.png'), RNG.integers(0, 256, (8, 8, 3), np.uint8))
    (tmp_path / 'list.txt').write_text(''.join(f'{i}.png {i}\n' for i in range(10)))
    return tmp_path


def image_net(folder, options='shuffle: true'):
    """ImageData with random crops and mirrors, feeding a Dropout, which draws random numbers too."""
    (folder / 'net.prototxt').write_text(f"""
        layer {{ name: "data" type: "ImageData" top: "data" top: "label"
                 transform_param {{ crop_size: 5 mirror: true }}
                 image_data_param {{ source: "{folder}/list.txt" root_folder: "{folder}/"
                                     batch_size: 3 {options} }} }}
        layer {{ name: "drop" type: "Dropout" bottom: "data" top: "drop" }}""")
    return caffe.Net(str(folder / 'net.prototxt'), caffe.TRAIN)


def run(net, passes=9, pause=0.0):
    batches = []
    for _ in range(passes):
        net.forward()
        time.sleep(pause)
        batches.append([blob.data.copy() for blob in net.blobs.values()])
    return batches


def test_a_seed_gives_the_same_batches_and_masks_whatever_the_timing(images):
    """Each image once an epoch; crops, mirrors, order and the dropout masks are the same."""
    results = []
    for pause in (0.0, 0.02):
        caffe.set_random_seed(3)
        results.append(run(image_net(images), pause=pause))
    for first, second in zip(*results, strict=True):
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)
    labels = np.concatenate([batch[1] for batch in results[0]])[:20]
    assert sorted(labels[:10]) == sorted(labels[10:]) == list(range(10))
    assert labels.tolist() != sorted(labels)


def test_two_nets_of_one_seed_differ(images):
    caffe.set_random_seed(3)
    first, second = run(image_net(images)), run(image_net(images))
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


def test_a_file_that_is_missing_is_named_by_the_forward_pass_that_needs_it(images):
    net = image_net(images, options='')
    (images / '4.png').unlink()
    net.forward()  # images 0, 1, 2
    with pytest.raises(LayerError, match=r"net\.prototxt:2: layer 'data' \(ImageData\).*4\.png"):
        net.forward()  # 3, 4, 5


def test_a_deleted_net_is_freed_with_its_thread(images):
    before = workers()
    net = image_net(images)
    net.forward()
    (thread,) = workers() - before
    layer = weakref.ref(net.layers[0])
    del net
    gc.collect()
    assert layer() is None
    wait_until(lambda: not thread.is_alive())


def test_hdf5_reads_ahead(tmp_path):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['x'] = np.arange(6, dtype='f')
    (tmp_path / 'list.txt').write_text(f'{tmp_path}/a.h5\n')
    (tmp_path / 'net.prototxt').write_text(f"""
        layer {{ name: "data" type: "HDF5Data" top: "x"
                 hdf5_data_param {{ source: "{tmp_path}/list.txt" batch_size: 4 }} }}""")
    net = caffe.Net(str(tmp_path / 'net.prototxt'), caffe.TEST)
    seen = [net.forward()['x'].tolist() for _ in range(3)]
    assert seen == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]


def test_a_process_ends_with_the_call_under_way_and_begins_no_other():
    """Eight results are wanted ahead. While the process ends, it waits for the one that is being made, and no more."""
    script = (
        'import sys, threading, time\n'
        'from caffe.layers.prefetch import Prefetch\n'
        'second = threading.Event()\n'
        'def main_waits_for_the_thread():\n'
        '    frame = sys._current_frames()[threading.main_thread().ident]\n'
        '    while frame is not None and frame.f_code is not threading.Thread.join.__code__:\n'
        '        frame = frame.f_back\n'
        '    return frame is not None\n'
        'def make():\n'
        '    print("begun", flush=True)\n'
        '    if made:\n'
        '        second.set()\n'
        '        while not main_waits_for_the_thread():\n'
        '            time.sleep(0.01)\n'
        '    made.append(1)\n'
        '    print("ended", flush=True)\n'
        'made = []\n'
        'ahead = Prefetch(make, 8)\n'
        'ahead.next()\n'
        'second.wait()\n'
    )
    lib = str(Path(caffe.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, '-c', script],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env=os.environ | {'PYTHONPATH': lib},
    )
    assert done.stderr == ''
    assert done.stdout.split() == ['begun', 'ended', 'begun', 'ended']
