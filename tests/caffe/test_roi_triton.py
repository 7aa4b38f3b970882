"""RoI pooling by Triton against RoI pooling by torch, number for number.

The kernels run in Triton's interpreter, which needs no GPU, and are compiled for GPUs that need not be there; where
there is one, they run on it too.
"""

import multiprocessing
import re
import sys
import types
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch

import caffe
from caffe.kernels import roi_bins, roi_pooling
from caffe.kernels.roi_bins import Bins, bins_of_rois

try:
    import triton_probe

    from caffe.kernels import roi_pooling_triton
except ModuleNotFoundError:
    roi_pooling_triton = None
needs_triton = pytest.mark.skipif(roi_pooling_triton is None, reason='the package triton is not installed')


# -- the kernels give what torch gives


@pytest.fixture(scope='module', params=['interpreter', 'GPU'])
def by_triton(request):
    """Calls a function of roi_pooling_triton.py with tensors on the CPU, wherever it runs: by_triton(name, *args)."""
    if roi_pooling_triton is None:
        pytest.skip('the package triton is not installed')
    if request.param == 'GPU':
        if not torch.cuda.is_available():
            pytest.skip('there is no GPU')
        yield lambda name, *args: moved(getattr(roi_pooling_triton, name)(*moved(args, 'cuda')), 'cpu')
        return
    # A process of its own: Triton has to be told before it is imported.
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv('TRITON_INTERPRET', '1')
            process.submit(abs, 0).result()
        try:
            sums = process.submit(triton_probe.run).result()
        except Exception as error:
            pytest.skip(f"Triton's interpreter cannot run a kernel of three lines: {error}")
        assert sums == [3, 3, 3, 3]
        yield lambda name, *args: process.submit(getattr(roi_pooling_triton, name), *args).result()


def moved(value, device):
    if isinstance(value, Bins):
        return Bins(*moved(tuple(value), device))
    if type(value) is tuple:
        return tuple(moved(v, device) for v in value)
    return value.to(device) if isinstance(value, torch.Tensor) else value


# Corners x1, y1, x2, y2 in units of the frame.
CORNERS = {
    'the whole frame': [0, 0, 1, 1],
    'out of it at the top left': [-0.5, -0.6, 0.4, 0.3],
    'out of it at the bottom right': [0.6, 0.7, 1.7, 1.4],
    'nowhere in it': [1.5, 1.4, 2.0, 1.8],
    'one pixel': [0.5, 0.5, 0.5, 0.5],
    'right to left': [0.7, 0.2, 0.2, 0.8],
    'bottom to top': [0.2, 0.8, 0.7, 0.2],
}


def features(kind, shape, rng):
    if kind == 'ties':
        return rng.integers(-2, 3, shape)
    x = rng.standard_normal(shape)
    if kind == 'NaN and infinities':
        x[x > 1.8] = np.nan
        x[x < 0.5] = -np.inf
    return x


def some_case(kind, pooled, scale, images=2, channels=12, size=(11, 14), count=7):
    """(x, down, across, image): each of CORNERS, and `count` RoIs at random."""
    rng = np.random.default_rng(0)
    corners = np.concatenate([list(CORNERS.values()), np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4)])
    frame = np.array([size[1], size[0]] * 2) / scale
    x = torch.from_numpy(features(kind, (images, channels, *size), rng).astype(np.float32))
    rois = np.column_stack([rng.integers(images, size=len(corners)), corners * frame])
    return x, *bins_of_rois(torch.from_numpy(rois.astype(np.float32)), scale, pooled, x.shape)


CASES = [  # kind of features, bins down and across, scale
    ('distinct', (7, 7), 1 / 16),
    ('ties', (3, 5), 1 / 16),
    ('ties', (1, 1), 1),
    ('NaN and infinities', (2, 3), 1 / 3),
]


@pytest.mark.parametrize('case', CASES, ids=str)
def test_maxima_and_places(case, by_triton):
    args = some_case(*case)
    top, place = roi_pooling.roi_max_pool(*args, True)
    assert (place == -1).any(), 'the case has bins without pixels'
    top_by_triton, place_by_triton = by_triton('roi_max_pool', *args, True)
    torch.testing.assert_close(top_by_triton, top, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(place_by_triton, place)


def test_maxima_without_places(by_triton):
    args = some_case('NaN and infinities', (3, 2), 1 / 16)
    top, place = by_triton('roi_max_pool', *args, False)
    torch.testing.assert_close(top, roi_pooling.roi_max_pool(*args, False)[0], rtol=0, atol=0, equal_nan=True)
    assert place is None


@pytest.mark.parametrize('case', CASES, ids=str)
def test_gradients(case, by_triton):
    """To the last bit: torch adds up in the same order on a CPU."""
    x, *bins_and_image = some_case(*case)
    top, place = roi_pooling.roi_max_pool(x, *bins_and_image, True)
    args = torch.randn(top.shape, generator=torch.Generator().manual_seed(1)), place, *bins_and_image, x.shape
    assert torch.equal(by_triton('roi_max_pool_backward', *args), roi_pooling.roi_max_pool_backward(*args))


def test_a_place_that_the_backward_pass_does_not_reach_gets_nothing(by_triton):
    """Of 7 pixels in 13 bins float32 rounds one out of the bin that has seen it."""
    x = torch.arange(81.0).reshape(1, 1, 9, 9)
    bins, _, image = bins_of_rois(torch.tensor([[0.0, 1, 1, 7, 7]]), 1, (13, 13), x.shape)
    assert roi_bins.unreached_bins(bins, bins, (9, 9)).all()
    top, place = roi_pooling.roi_max_pool(x, bins, bins, image, True)
    args = torch.ones_like(top), place, bins, bins, image, x.shape
    gradient = by_triton('roi_max_pool_backward', *args)
    assert torch.equal(gradient, roi_pooling.roi_max_pool_backward(*args))
    assert gradient.sum() < top.numel()


def test_no_rois(by_triton):
    x, down, across, image = some_case('distinct', (2, 3), 1 / 16)
    none = Bins(*(t[:0] for t in down)), Bins(*(t[:0] for t in across)), image[:0]
    top, place = by_triton('roi_max_pool', x, *none, True)
    assert top.shape == (0, 12, 2, 3) and place.shape == (0, 12, 6)
    assert not by_triton('roi_max_pool_backward', top, place, *none, x.shape).any()


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no GPU')
def test_the_host_does_not_wait_for_the_gpu():
    x, rois = torch.randn(1, 4, 11, 14, device='cuda'), torch.tensor([[0.0, 3, 5, 90, 120]], device='cuda')
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode('error')
    try:
        bins = bins_of_rois(rois, 1 / 16, (7, 7), x.shape)
        top, place = roi_pooling.roi_max_pool(x, *bins, True)
        roi_pooling.roi_max_pool_backward(top, place, *bins, x.shape)
    finally:
        torch.cuda.set_sync_debug_mode(before)


# -- the kernels compile


FLOATS = ('x', 'top', 'diff', 'x_diff', 'down_length', 'across_length')


@needs_triton
@pytest.mark.parametrize('capability', [80, 90])
@pytest.mark.parametrize('kernel, places', [('forward', True), ('forward', False), ('backward', True)])
def test_compiles(kernel, places, capability, monkeypatch, tmp_path):
    """To machine code of the A100 (8.0) and the H100 (9.0), whatever is in this machine."""
    pytest.importorskip('triton', '3.3', 'compiling without a GPU is done here as Triton 3.3 and later want it')
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    function = getattr(roi_pooling_triton, f'{kernel}_kernel')
    constants = {'DOWN': 7, 'ACROSS': 7, 'BLOCK': 512} | ({} if places else {'place': None})
    kinds = dict.fromkeys(FLOATS, '*fp32') | dict.fromkeys(roi_pooling_triton._SIZES, 'i32') | {'place': '*i32'}
    kinds |= dict.fromkeys(constants, 'constexpr')
    source = ASTSource(function, {name: kinds.get(name, '*i64') for name in function.arg_names}, constants)
    made = compile(source, target=GPUTarget('cuda', capability, 32), options={'enable_fp_fusion': False}).asm
    assert made['cubin']
    assert f'.target sm_{capability}' in made['ptx']
    assert not re.search(r'\b(atom|red)\.', made['ptx']), 'additions in an order of chance'
    # Triton 3.4 has denormal numbers as zero there (ftz): neither pixels nor the lengths of bins are that small
    assert bool(re.search(r'div\.rn\.(ftz\.)?f32', made['ptx'])) == (kernel == 'backward')
    assert not re.search(r'div\.(full|approx)', made['ptx']), 'inexact division'


# -- who pools


@pytest.fixture
def triton_made_of(monkeypatch):
    """Puts functions in the place of `caffe.kernels.roi_pooling_triton`, as if nothing had been tried before."""
    monkeypatch.setattr(roi_pooling, '_triton_serves', True)
    monkeypatch.setattr('caffe.glog._warned', set())

    def put(**functions):
        monkeypatch.setitem(sys.modules, 'caffe.kernels.roi_pooling_triton', types.SimpleNamespace(**functions))

    return put


def test_tensors_on_a_gpu_are_pooled_by_triton(triton_made_of):
    triton_made_of(roi_max_pool=lambda *args: args, roi_max_pool_backward=lambda *args: args)
    on_gpu = types.SimpleNamespace(is_cuda=True)
    assert roi_pooling.roi_max_pool(on_gpu, 1, 2, 3, True, out=4) == (on_gpu, 1, 2, 3, True, 4)
    assert roi_pooling.roi_max_pool_backward(on_gpu, 1, 2, 3, 4, 5) == (on_gpu, 1, 2, 3, 4, 5)


def test_tensors_on_a_cpu_are_not(triton_made_of):
    triton_made_of()
    x, *bins_and_image = some_case('ties', (2, 2), 1)
    top, place = roi_pooling.roi_max_pool(x, *bins_and_image, True)
    assert roi_pooling.roi_max_pool_backward(top, place, *bins_and_image, x.shape).shape == x.shape
    assert roi_pooling._triton_serves


def test_without_triton_torch_pools_and_one_warning_says_so(monkeypatch, triton_made_of, capsys):
    monkeypatch.setitem(sys.modules, 'triton', None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, 'caffe.kernels.roi_pooling_triton', raising=False)
    caffe.init_log(0)
    assert roi_pooling._by_triton('roi_max_pool') is None
    assert roi_pooling._by_triton('roi_max_pool_backward') is None
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(
        r'W\d{4} .*\] RoIs are pooled on the GPU without Triton, in more memory \(ModuleNotFoundError: .*triton', line
    )


def test_what_refused_once_is_not_asked_again(triton_made_of, capsys):
    asked = []

    def refuse(*args):
        asked.append(args)
        raise RuntimeError('no assembler\nhere')

    triton_made_of(roi_max_pool=refuse)
    assert roi_pooling._by_triton('roi_max_pool', 1) is None
    assert roi_pooling._by_triton('roi_max_pool', 2) is None
    assert asked == [(1,)]
    assert capsys.readouterr().err.endswith('(RuntimeError: no assembler)\n')


def test_a_full_gpu_is_not_a_refusal(triton_made_of):
    def full(*args):
        raise torch.cuda.OutOfMemoryError('full')

    triton_made_of(roi_max_pool=full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        roi_pooling._by_triton('roi_max_pool')
    assert roi_pooling._triton_serves
