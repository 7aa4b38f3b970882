"""onnxruntime with an exported net, beside the engine or what the original Caffe recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from export_cases import Case

import caffe
from caffe.onnx_export.model import export

GOLDEN = Path(__file__).parent.parent / 'golden' / 'layers'


def fill(net: caffe.Net, seed: int = 0) -> None:
    """Numbers for all parameters; statistics of BatchNorm that could be."""
    rng = np.random.default_rng(seed)
    for node in net.nodes:
        for k, blob in enumerate(node.layer.blobs):
            blob.data[...] = rng.standard_normal(blob.shape) * 0.5
            if node.layer.type == 'BatchNorm' and k:
                blob.data[...] = np.abs(blob.data) + 0.5
            if node.layer.type == 'BN' and k == 3:  # a variance
                blob.data[...] = np.abs(blob.data) + 0.5


def session(model) -> onnxruntime.InferenceSession:
    """onnxruntime with a model, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])


def run(net: caffe.Net, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs of the engine."""
    for name, array in arrays.items():
        net.blobs[name].reshape(*array.shape)
        net.blobs[name].data[...] = array
    for layer in net.layers:
        if hasattr(layer, 'reset'):
            layer.reset()
    return {name: np.array(value) for name, value in net.forward().items()}


def difference(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference, over the largest number that was expected. Raises AssertionError for other shapes."""
    assert got.shape == want.shape, (got.shape, want.shape)
    assert not np.isnan(want).any(), 'a case that shows nothing'
    if want.size == 0:
        return 0.0
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-6))


def compare(net: caffe.Net, model, arrays: Sequence[dict[str, np.ndarray]]) -> float:
    """The largest difference of any output, over all of `arrays`."""
    running, worst = session(model), 0.0
    for inputs in arrays:
        wanted = run(net, inputs)
        got = dict(zip((o.name for o in running.get_outputs()), running.run(None, inputs), strict=True))
        assert set(got) >= set(wanted)
        worst = max([worst, *(difference(value, np.array(net.blobs[name].data)) for name, value in got.items())])
    return worst


def measure(case: Case, folder: Path) -> float:
    """The largest difference between onnxruntime and the engine in a case, at all of its sizes."""
    path = folder / 'net.prototxt'
    path.write_text(case.prototxt)
    net = caffe.Net(str(path), case.phase)
    fill(net)
    return compare(net, export(net), [case.arrays(k) for k in range(case.n_sizes)])


def recordings() -> list[Path]:
    """The layers recorded on the original Caffe."""
    return sorted(GOLDEN.glob('*.prototxt'))


def measure_recording(path: Path) -> tuple[str, float]:
    """The type of a recorded layer, and the largest difference between onnxruntime and the original Caffe."""
    gold = dict(np.load(path.with_suffix('.npz')))
    net = caffe.Net(str(path), getattr(caffe, path.read_text().splitlines()[0].split()[-1]))
    for key, value in gold.items():
        kind, name = key.split('/')
        if kind == 'param':
            net.params['layer'][int(name)].data[...] = value
    tops = [key[4:] for key in gold if key.startswith('out/')]
    running = session(export(net, tops))
    got = running.run(tops, {i.name: gold[f'in/{i.name}'] for i in running.get_inputs()})
    worst = max(difference(g, gold[f'out/{name}']) for name, g in zip(tops, got, strict=True))
    return net.layer_dict['layer'].type, worst
