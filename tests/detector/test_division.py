"""How passes are dealt to ranks, and what a solver is told."""

import itertools

import pytest

from caffe.proto import caffe_pb2
from fast_rcnn.division import divide, set_solver


def test_neighbouring_passes_go_to_one_rank():
    parts = [divide(6, rank, 3) for rank in range(3)]
    assert [(part.first, part.here) for part in parts] == [(0, 2), (2, 2), (4, 2)]
    assert [part.position(10) for part in parts] == [60, 62, 64]
    assert list(itertools.islice(parts[1].following(62), 5)) == [62, 63, 68, 69, 74]
    assert list(itertools.islice(divide(2).following(3), 3)) == [3, 4, 5]


@pytest.mark.parametrize(
    ('passes', 'ranks', 'says'),
    [(3, 2, 'start 1 or 3, or have iter_size 2, 4'), (1, 4, 'has 1 pass .* start 1, or have iter_size 4, 8')],
)
def test_passes_that_do_not_divide(passes, ranks, says):
    with pytest.raises(ValueError, match=says):
        divide(passes, 0, ranks)


def test_the_solver_of_a_divided_mini_batch():
    """The norm of the mean over two solvers is half that of the sum, which Caffe clips."""
    param = caffe_pb2.SolverParameter(iter_size=4, base_lr=0.5, clip_gradients=10, stepsize=100)
    set_solver(param, divide(4, 1, 2))
    assert (param.iter_size, param.base_lr, param.clip_gradients, param.stepsize) == (2, 0.5, 5, 100)


def test_the_solver_of_a_scaled_mini_batch():
    """Goyal et al.: four times the images, four times the rate, a quarter of the iterations."""
    part = divide(2, 1, 4, scale_batch=True)
    assert (part.passes, part.here, part.first) == (8, 2, 2)
    param = caffe_pb2.SolverParameter(iter_size=2, base_lr=0.5, stepsize=100, stepvalue=[10, 41])
    set_solver(param, part)
    assert (param.iter_size, param.base_lr, param.stepsize, list(param.stepvalue)) == (2, 2.0, 25, [3, 11])
    assert part.iterations(1001) == 251
    assert [part.warm_up(2.0, i, 100) for i in (0, 5, 10, 99)] == [0.5, 1.25, 2.0, 2.0]
    assert divide(2).warm_up(2.0, 0, 100) == 2.0
