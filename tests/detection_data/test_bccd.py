"""data/scripts/prepare_bccd.py, and import_weights.py for an .npz: what the experiment on photographs starts from."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from voc_folder import annotation

from detection_data.factory import get_imdb

ROOT = Path(__file__).parents[2]
NET = """
    name: "trunk"
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
    layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
            convolution_param { num_output: 2 kernel_size: 3 } }
    layer { name: "relu" type: "ReLU" bottom: "c1" top: "c1" }
    layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2"
            convolution_param { num_output: 4 kernel_size: 1 } }
    layer { name: "fc" type: "InnerProduct" bottom: "c2" top: "fc" inner_product_param { num_output: 5 } }
"""


def run(script, *args):
    command = [sys.executable, ROOT / script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def convert(folder):
    """Makes w.caffemodel of w.npz, for net.prototxt, all in `folder`."""
    files = [folder / name for name in ('w.npz', 'net.prototxt', 'w.caffemodel')]
    return run('tools/import_weights.py', files[0], '--net', files[1], '--out', files[2])


def test_the_copy_lacks_boxes_that_are_points_and_says_so(folder, tmp_path):
    folder.add('b', annotation([('dog', 5, 5, 25, 25), ('cat', 9, 9, 9, 9)]))
    out = tmp_path / 'copy'
    done = run('data/scripts/prepare_bccd.py', '--source', folder.root, '--out', out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('b.xml: left out object 2 (cat), a box of (9, 9, 9, 9)\n')
    data = get_imdb(f'folder:{out}:train')
    assert [len(data.annotation(i)['boxes']) for i in range(2)] == [2, 1]
    untouched = 'Annotations/a.xml'
    assert (out / untouched).read_bytes() == (folder.root / untouched).read_bytes()
    again = run('data/scripts/prepare_bccd.py', '--source', folder.root, '--out', out)
    assert again.returncode == 1 and 'is there already' in again.stderr
    wrong = run('data/scripts/prepare_bccd.py', '--source', tmp_path, '--out', tmp_path / 'x')
    assert wrong.returncode == 1 and 'has no folder Annotations' in wrong.stderr


def test_weights_become_a_caffemodel_of_just_these_layers(tmp_path):
    import caffe

    (tmp_path / 'net.prototxt').write_text(NET)
    rng = np.random.default_rng(0)
    shapes = {'c1/0': (2, 3, 3, 3), 'c1/1': (2,), 'c2/0': (4, 2, 1, 1), 'c2/1': (4,)}
    weights = {key: rng.normal(size=shape).astype(np.float16) for key, shape in shapes.items()}
    np.savez(tmp_path / 'w.npz', **weights)
    done = convert(tmp_path)
    assert done.returncode == 0, done.stderr
    assert '2 layers, c1 to c2' in done.stdout
    caffe.set_mode_cpu()
    net = caffe.Net(str(tmp_path / 'net.prototxt'), caffe.TEST)
    net.params['fc'][0].data[...] = 7
    net.copy_from(str(tmp_path / 'w.caffemodel'))
    for key, array in weights.items():
        layer, k = key.split('/')
        np.testing.assert_array_equal(net.params[layer][int(k)].data, array)  # float16 fits into float32
    assert (net.params['fc'][0].data == 7).all()


def test_weights_that_do_not_fit_are_named(tmp_path):
    (tmp_path / 'net.prototxt').write_text(NET)
    for weights, words in (
        ({'c1/0': np.zeros((2, 3, 5, 5)), 'c1/1': np.zeros(2)}, "layer 'c1': weights of shapes"),
        ({'c9/0': np.zeros(2)}, 'has no layers c9'),
        ({'c2/0': np.zeros((4, 2, 1, 1)), 'c2/1': np.zeros(4)}, 'no weights of c1'),
        ({'plain': np.zeros(2)}, 'expected arrays called'),
    ):
        np.savez(tmp_path / 'w.npz', **weights)
        done = convert(tmp_path)
        assert done.returncode == 1 and words in done.stderr, done.stderr
    assert not (tmp_path / 'w.caffemodel').exists()
