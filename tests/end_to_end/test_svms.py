"""tools/train_svms.py, and the other tools on what it writes."""

import importlib.util
import json

import pytest
from commands import SMALL, run

pytest.importorskip('sklearn')
CFG = 'experiments/cfgs/demo_ohem.yml'


def test_svms_are_trained_tested_and_known_by_their_file(tiny, train, tmp_path):
    train(2)
    weights = train.folder() / 'small_fast_rcnn_ohem_iter_2.caffemodel'
    net = ['--gpu', 'cpu', '--def', SMALL / 'fast_rcnn_ohem' / 'test.prototxt', '--net']
    settings = ['--cfg', CFG, '--set', 'ROOT_DIR', tmp_path / 'run', 'EXP_DIR', 'e', 'TRAIN.USE_FLIPPED', 'False']
    said = run('tools/train_svms.py', *net, weights, '--imdb', f'folder:{tiny}:train', *settings)
    svms = weights.with_name('small_fast_rcnn_ohem_iter_2_svm.caffemodel')
    assert f'Wrote svm model to: {svms}' in said.stdout and 'starfish: ' in said.stdout

    said = run('tools/test_net.py', *net, svms, '--imdb', f'folder:{tiny}:test', *settings)
    assert f'{svms} scores by SVMs: TEST.SVM is True for it' in said.stdout and 'mean ' in said.stdout

    # scores of SVMs have no bounds: -5 and 1.5 are sensible, where probabilities end at 0 and 1
    results = tmp_path / 'run' / 'output' / 'e' / 'tiny_test' / svms.stem
    for least in (-5, 1.5):
        flags = ('--imdb', f'folder:{tiny}:test', '--det_thresh', least, '--out', tmp_path / 'errors')
        assert f'Detections of score {least:.1f} or more' in run('tools/visualize_errors.py', results, *flags).stdout
    if importlib.util.find_spec('uvicorn'):
        said = run('tools/serve.py', *net, svms, '--port', 0, '--det_thresh', 200, *settings, status=1)
        assert said.stderr.endswith('serve.py: error: --det_thresh is 200.0; expected -100 to 100\n')

    image = next((tiny / 'JPEGImages').glob('test_*'))
    run('tools/demo.py', *net, svms, '--images', image, '--out', tmp_path / 'drawn', '--det_thresh', -5, *settings)
    found = json.loads((tmp_path / 'drawn' / 'detections.json').read_text())[str(image)]
    assert found and min(box['score'] for box in found) < 0 and (tmp_path / 'drawn' / f'{image.stem}.png').exists()

    said = run('tools/export_onnx.py', *net, svms, '--out', tmp_path / 'd.onnx', *settings, status=1)
    assert 'cannot follow TEST.SVM (it takes False: a model of softmax)' in said.stderr

    solver = SMALL / 'fast_rcnn_ohem' / 'solver.prototxt'
    said = run('tools/inspect_rois.py', '--gpu', 'cpu', '--solver', solver, '--weights', svms,
               '--imdb', f'folder:{tiny}:train', '--out', tmp_path / 'mined', *settings, status=1)  # fmt: skip
    assert 'scores by SVMs, and mining goes by the loss of a softmax: give those before' in said.stderr


def test_an_export_names_the_folder_that_is_missing_first(tmp_path):
    weights = tmp_path / 'a.caffemodel'
    weights.touch()
    prototxt = SMALL / 'fast_rcnn_ohem' / 'test.prototxt'
    out = tmp_path / 'nodir' / 'x.onnx'
    said = run('tools/export_onnx.py', '--def', prototxt, '--net', weights, '--out', out, status=1)
    assert f'error: --out {out}: there is no folder {out.parent}: make it first' in said.stderr


def test_the_package_that_is_missing_is_named(tmp_path):
    (tmp_path / 'sklearn.py').write_text('raise ModuleNotFoundError("no", name="sklearn")')
    weights = tmp_path / 'a.caffemodel'
    weights.touch()
    prototxt = SMALL / 'fast_rcnn_ohem' / 'test.prototxt'
    env = {'PYTHONPATH': str(tmp_path)}
    said = run('tools/train_svms.py', '--def', prototxt, '--net', weights, '--gpu', 'cpu', env=env, status=1)
    assert 'the package scikit-learn is missing: pip install scikit-learn' in said.stderr
