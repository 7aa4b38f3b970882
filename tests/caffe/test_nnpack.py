"""3 x 3 convolutions by NNPACK: the results of the direct way, the same bytes for any number of threads."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from one_layer import backward, forward, make

from caffe.kernels import convolution, nnpack, parallel
from caffe.process import denormals

pytestmark = pytest.mark.skipif(not nnpack.is_there(), reason='this torch has no NNPACK for this processor')

# (images, channels, filters, height, width, pad, groups): odd and even sizes, smaller than a tile, every padding
SHAPES = [
    (1, 8, 4, 9, 12, (1, 1), 1),
    (2, 5, 7, 8, 7, (0, 2), 1),
    (1, 3, 3, 3, 3, (0, 0), 1),
    (3, 4, 4, 1, 5, (1, 1), 1),
    (2, 6, 9, 13, 13, (2, 0), 3),
    (1, 70, 65, 61, 50, (1, 1), 1),
]


def numbers(n, c, k, h, w, pad, groups):
    """x, weight, bias, and the gradient of the result."""
    random = torch.Generator().manual_seed(0)
    shapes = (n, c, h, w), (k, c // groups, 3, 3), (k,), (n, k, h + 2 * pad[0] - 2, w + 2 * pad[1] - 2)
    x, weight, bias, diff = (torch.randn(shape, generator=random) for shape in shapes)
    return x, weight / (9 * c / groups) ** 0.5, bias, diff


def relative_error(got, exact):
    return float((got - exact).abs().max() / exact.abs().max())


@pytest.mark.parametrize('shape', SHAPES)
def test_both_passes_are_those_of_a_convolution_in_float64(shape, threads):
    *_, pad, groups = shape
    x, weight, bias, diff = numbers(*shape)
    exact_x = x.double().requires_grad_()
    exact = torch.nn.functional.conv2d(exact_x, weight.double(), bias.double(), padding=pad, groups=groups)
    exact.backward(diff.double())
    assert relative_error(nnpack.convolve(x, weight, bias, pad, groups=groups), exact.detach()) < 5e-5
    assert relative_error(nnpack.image_gradient(diff, weight, pad, groups=groups), exact_x.grad) < 5e-5


def test_any_number_of_threads_gives_the_same_bytes(monkeypatch):
    shape = (2, 70, 65, 61, 50, (1, 1), 1)
    x, weight, bias, diff = numbers(*shape)
    found, before = set(), torch.get_num_threads()
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            for _ in range(2):
                results = nnpack.convolve(x, weight, bias, (1, 1)), nnpack.image_gradient(diff, weight, (1, 1))
                found.add(b''.join(r.numpy().tobytes() for r in results))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize('cut', [(6, 65), (6, 32), (18, 7), (61, 8), (60, 33)])
def test_pieces_of_any_size_give_the_same_bytes(cut, monkeypatch):
    shape = (2, 70, 65, 61, 50, (1, 1), 1)
    x, weight, bias, _ = numbers(*shape)
    whole = nnpack.convolve(x, weight, bias, (1, 1))
    assert nnpack.convolve(x[:1], weight, bias, (1, 1)).numpy().tobytes() == whole[:1].numpy().tobytes()
    monkeypatch.setattr(nnpack, '_cut', lambda *_: cut)
    assert nnpack.convolve(x, weight, bias, (1, 1)).numpy().tobytes() == whole.numpy().tobytes()


def layer(channels, outputs, height, width, options=''):
    """A layer with its bottom and top, and the exact result and gradients of numbers that it is given."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, channels, height, width)).astype(np.float32)
    options = f'num_output: {outputs} kernel_size: 3 pad: 1 weight_filler {{ type: "xavier" }} {options}'
    return make(f'type: "Convolution" top: "y" convolution_param {{ {options} }}', x)


def ways_taken(monkeypatch, conv, bottom, top):
    """The names of the functions of this module that a forward and a backward pass call."""
    used = set()
    for name in ('convolve', 'image_gradient'):
        original = getattr(nnpack, name)
        monkeypatch.setattr(nnpack, name, lambda *a, f=original, n=name: used.add(n) or f(*a))
    (y,) = forward(conv, bottom, top)
    backward(conv, bottom, top, np.ones_like(y))
    return used


@pytest.mark.parametrize(
    ('shape', 'taken'),
    [((64, 64, 48, 48), True), ((64, 64, 42, 48), False), ((96, 128, 30, 36), False), ((64, 32, 90, 90), False)],
)
def test_a_large_layer_takes_this_way_a_smaller_one_another(shape, taken, monkeypatch):
    assert ways_taken(monkeypatch, *layer(*shape)) == ({'convolve', 'image_gradient'} if taken else set())


@pytest.mark.parametrize(('value', 'plain'), [('1', True), ('', False)])
def test_plain_sums_on_request(value, plain):
    """CAFFE_NO_WINOGRAD is read when caffe is loaded: a process of its own."""
    script = """
        import caffe, torch
        from caffe.kernels.convolution import Filter, Geometry, convolve
        x, weight, out = torch.rand(1, 128, 48, 48), torch.rand(256, 128, 3, 3), torch.empty(1, 256, 48, 48)
        ours = convolve(x, weight, None, Filter(Geometry((3, 3), (1, 1), (1, 1), (1, 1))), memory=lambda: out)
        print(torch.equal(ours, torch.nn.functional.conv2d(x, weight, padding=1)))"""
    env = {**os.environ, 'CAFFE_NO_WINOGRAD': value, 'PYTHONPATH': str(Path(nnpack.__file__).parents[2])}
    run = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(script)], env=env, capture_output=True, text=True, check=False
    )
    assert (run.stdout.strip(), run.stderr) == (str(plain), '')


@pytest.mark.parametrize('options', ['stride: 2', 'dilation: 2'])
def test_other_filters_take_another_way_even_if_it_is_forced(options, monkeypatch):
    with convolution.routes.force('nnpack'):
        assert not ways_taken(monkeypatch, *layer(64, 64, 48, 48, options))


def test_another_way_can_be_forced(monkeypatch):
    with convolution.routes.force('direct'):
        assert not ways_taken(monkeypatch, *layer(64, 64, 48, 48))


@pytest.mark.parametrize('group', [1, 2])
def test_all_gradients_of_a_layer(group):
    conv, bottom, top = layer(128, 256, 40, 40, f'group: {group} bias_filler {{ type: "gaussian" }}')
    (y,) = forward(conv, bottom, top)
    diff = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    (x_diff,) = backward(conv, bottom, top, diff)
    values = bottom[0].data, *(b.data for b in conv.blobs)
    inputs = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in values]
    exact = torch.nn.functional.conv2d(*inputs, padding=1, groups=group)
    exact.backward(torch.tensor(diff, dtype=torch.float64))
    assert relative_error(torch.from_numpy(y), exact.detach()) < 5e-5
    for got, expected in zip([x_diff, *(b.diff for b in conv.blobs)], inputs, strict=True):
        assert relative_error(torch.tensor(got), expected.grad) < 5e-5


@pytest.mark.parametrize('zero_here', [False, True])
def test_denormals_count_as_zero_in_all_of_its_threads_which_are_then_as_they_were(zero_here, threads):
    """NNPACK sees to it by itself; this thread keeps the mode that it had."""
    x, weight = torch.full((4, 64, 48, 48), 1e-20), torch.full((64, 64, 3, 3), 1e-20)  # products of 1e-40
    before = torch.set_flush_denormal(zero_here)
    try:
        assert nnpack.convolve(x, weight, None, (1, 1)).count_nonzero() == 0
        assert denormals.count_as_zero() == (zero_here and before)
    finally:
        torch.set_flush_denormal(False)


def test_a_nan_stays_within_the_tiles_that_it_reaches():
    x, weight, bias, _ = numbers(1, 4, 4, 30, 30, (1, 1), 1)
    clean = nnpack.convolve(x, weight, bias, (1, 1))
    x[0, 2, 14, 14] = float('nan')  # the middle tile of five gives 12 to 17 from 11 to 18
    spoilt = nnpack.convolve(x, weight, bias, (1, 1))
    assert spoilt[..., 13:16, 13:16].isnan().all()
    outside = torch.ones(30, 30, dtype=torch.bool)
    outside[12:18, 12:18] = False
    assert torch.equal(spoilt[..., outside], clean[..., outside])


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no forks here')
def test_a_forked_child_computes_the_same():
    x, weight, bias, _ = numbers(1, 64, 64, 60, 60, (1, 1), 1)
    before = nnpack.convolve(x, weight, bias, (1, 1))
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(nnpack.convolve(x, weight, bias, (1, 1)), before) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_several_python_threads_at_once():
    x, weight, bias, _ = numbers(1, 64, 64, 60, 60, (1, 1), 1)
    expected, found = nnpack.convolve(x, weight, bias, (1, 1)), []

    def work():
        found.extend(torch.equal(nnpack.convolve(x, weight, bias, (1, 1)), expected) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 20


def test_it_serves_in_inference_mode(threads, monkeypatch):
    monkeypatch.setattr(nnpack, '_cut', lambda *_: (6, 4))
    with torch.inference_mode():
        x, weight, bias, _ = numbers(1, 8, 8, 30, 30, (1, 1), 1)
        assert nnpack.convolve(x, weight, bias, (1, 1)).isfinite().all()


def test_a_batch_of_nothing_passes_through():
    with convolution.routes.force('nnpack'):
        conv, bottom, top = make(
            'type: "Convolution" top: "y" convolution_param { num_output: 8 kernel_size: 3 pad: 1 }',
            np.ones((0, 8, 9, 9)),
        )
        (y,) = forward(conv, bottom, top)
        (x_diff,) = backward(conv, bottom, top, y)
    assert (y.shape, x_diff.shape) == ((0, 8, 9, 9), (0, 8, 9, 9))


def test_what_one_thread_raises_is_raised_when_all_have_ended(threads):
    done = []

    def work(piece, thread):
        done.append(piece)
        if piece == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parallel.deal(work, range(1000), torch.get_num_threads())
    assert set(done) >= {0, 1, 2, 3}
    assert len(done) < 1000


def test_an_interruption_that_c_has_swallowed_is_raised(monkeypatch):
    """A signal may come before the first line of what C calls: that call is lost, and nothing was computed."""
    monkeypatch.setattr(parallel, '_parallel', lambda call, data, count, flags: None)
    with pytest.raises(KeyboardInterrupt):
        parallel.on_each_thread(lambda: None, 2)
