"""A layer on its own: `run_layer` runs one, `check_gradient` compares its backward pass with differences."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import torch
from google.protobuf import text_format

from caffe.blob import Blob
from caffe.layer import Layer, native_type
from caffe.process import device
from caffe.proto import caffe_pb2


@contextmanager
def one_thread():
    """With arrays as small as here, waiting for one another is all that threads would do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class RunningLayer:
    """A layer with its blobs. bottoms, tops: lists of Blob; in_place lets top i be bottom i."""

    def __init__(self, prototxt: str, bottoms, phase: str = 'TEST', n_tops: int = 1, seed: int = 0, in_place=False):
        """prototxt: the fields of a LayerParameter; bottoms: arrays, written to the bottoms as float32."""
        device.set_random_seed(seed)
        param = text_format.Parse(prototxt, caffe_pb2.LayerParameter())
        param.name = param.name or 'layer'
        param.phase = caffe_pb2.Phase.Value(phase)
        self.bottoms = [Blob(*np.shape(b)) for b in bottoms]
        for blob, array in zip(self.bottoms, bottoms, strict=True):
            blob.data[...] = array
        self.tops = self.bottoms[:n_tops] if in_place else [Blob() for _ in range(n_tops)]
        self.layer: Layer = native_type(param.type)(param)
        self.layer.needs_backward = True
        self.layer.setup(self.bottoms, self.tops)
        self.layer.reshape(self.bottoms, self.tops)
        self.layer.param_propagate_down = [True] * len(self.layer.blobs)

    def forward(self) -> list[np.ndarray]:
        """Runs the layer; copies of the tops' data."""
        with torch.no_grad(), one_thread():
            self.layer.reshape(self.bottoms, self.tops)
            self.layer.forward(self.bottoms, self.tops)
        return [t.data.copy() for t in self.tops]

    def backward(self, top_diffs, propagate_down=None) -> list[np.ndarray]:
        """Runs the backward pass from these top diffs; copies of the bottoms' diffs."""
        for top, diff in zip(self.tops, top_diffs, strict=True):
            top.diff[...] = diff
        for blob in self.layer.blobs:
            blob.clear_diff()
        down = propagate_down or [True] * len(self.bottoms)
        with torch.no_grad():
            self.layer.backward(self.tops, down, self.bottoms)
        return [b.diff.copy() for b in self.bottoms]


def run_layer(prototxt: str, bottoms, phase: str = 'TEST', n_tops: int = 1, seed: int = 0) -> list[np.ndarray]:
    """The tops' data of a layer for these bottoms."""
    return RunningLayer(prototxt, bottoms, phase, n_tops, seed).forward()


def check_gradient(
    prototxt: str,
    bottoms: list[np.ndarray],
    check: tuple[int, ...] = (0,),
    phase: str = 'TEST',
    eps: float = 1e-2,
    rtol: float = 1e-2,
    atol: float = 1e-3,
    seed: int = 0,
    n_tops: int = 1,
    check_params: bool = True,
) -> None:
    """Asserts that the gradient of a random weighting of the tops is that of central differences.

    The weighting is the top diffs; the random numbers are seeded anew before each forward pass, so that
    dropout masks repeat. check: the bottoms whose diffs are compared; the parameters are, too, unless
    check_params is false. Inputs should lie off the kinks of the layer by more than eps.
    """
    run = RunningLayer(prototxt, bottoms, phase, n_tops, seed)
    run.forward()  # the data may decide on the shapes of the tops
    rng = np.random.default_rng(seed + 1)
    weights = [rng.standard_normal(t.shape).astype(np.float32) for t in run.tops]

    def value() -> float:
        device.set_random_seed(seed)
        return sum(float((w.astype(np.float64) * t).sum()) for w, t in zip(weights, run.forward(), strict=True))

    params = [p.data.copy() for p in run.layer.blobs]
    value()
    diffs = run.backward(weights, [i in check for i in range(len(bottoms))])
    targets = [(f'bottom {i}', run.bottoms[i], diffs[i]) for i in check]
    if check_params:
        targets += [(f'parameter {i}', p, p.diff.copy()) for i, p in enumerate(run.layer.blobs)]
    for p, saved in zip(run.layer.blobs, params, strict=True):
        p.data[...] = saved
    for name, blob, got in targets:
        want = np.zeros(blob.count)
        for k in range(blob.count):
            data = blob.data.reshape(-1)
            original = data[k]
            data[k] = original + eps
            above = value()
            data = blob.data.reshape(-1)
            data[k] = original - eps
            below = value()
            blob.data.reshape(-1)[k] = original
            want[k] = (above - below) / (2 * eps)
        np.testing.assert_allclose(got.reshape(-1), want, rtol=rtol, atol=atol, err_msg=f'{name} of {prototxt}')
