"""The notebooks run whole, on a small data set, and are committed with their outputs, small."""

from pathlib import Path

import pytest
from commands import ROOT, SMALL, run

nbformat = pytest.importorskip('nbformat', reason='notebooks need: pip install nbformat nbclient ipykernel')
nbclient = pytest.importorskip('nbclient', reason='notebooks need: pip install nbformat nbclient ipykernel')
pytest.importorskip('ipykernel', reason='notebooks need: pip install nbformat nbclient ipykernel')

NOTEBOOKS = sorted((ROOT / 'experiments' / 'notebooks').glob('*.ipynb'))


@pytest.fixture(scope='module')
def parameters(tiny, tmp_path_factory):
    """The first code cell of the notebooks, for the tiny data set and a net trained on it a little."""
    root = tmp_path_factory.mktemp('run')
    solver = SMALL / 'fast_rcnn_ohem' / 'solver.prototxt'
    run(
        'tools/train_net.py',
        '--gpu',
        'cpu',
        '--solver',
        solver,
        '--imdb',
        f'folder:{tiny}:train',
        '--iters',
        2,
        '--cfg',
        'experiments/cfgs/demo_ohem.yml',
        '--set',
        'ROOT_DIR',
        root,
    )
    weights = root / 'output' / 'demo_ohem' / 'tiny_train' / '*_ohem_iter_*.caffemodel'
    values = {
        'DATA': f'folder:{tiny}:train',
        'SOLVER': str(solver),
        'CFG': 'experiments/cfgs/demo_ohem.yml',
        'WEIGHTS': str(weights),
    }
    return '\n'.join(f'{name} = {value!r}' for name, value in values.items())


def executed(path: Path, parameters: str):
    """The notebook, run with `parameters` in place of its first code cell."""
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [cell for cell in notebook.cells if 'parameters' in cell.metadata.get('tags', [])]
    cell.source = parameters
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}}
    ).execute()  # raises at the first cell that does
    return notebook


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_whole(path: Path, parameters):
    executed(path, parameters)


def test_proposals_of_an_rpn_are_drawn_beside_what_is_mined(tiny, tmp_path):
    solver, cfg = SMALL / 'faster_rcnn_end2end_ohem' / 'solver.prototxt', 'experiments/cfgs/demo_faster_rcnn_ohem.yml'
    data = f'folder:{tiny}:train'
    run(
        'tools/train_net.py', '--gpu', 'cpu', '--solver', solver, '--imdb', data, '--iters', 1, '--cfg', cfg,
        '--set', 'ROOT_DIR', tmp_path,
    )  # fmt: skip
    weights = tmp_path / 'output' / 'demo_faster_rcnn_ohem' / 'tiny_train' / '*_ohem_iter_*.caffemodel'
    values = {'DATA': data, 'SOLVER': str(solver), 'CFG': cfg, 'WEIGHTS': str(weights)}
    path = next(path for path in NOTEBOOKS if path.stem == 'inspect_hard_rois')
    notebook = executed(path, '\n'.join(f'{name} = {value!r}' for name, value in values.items()))
    (cell,) = [cell for cell in notebook.cells if 'draw_by_score(' in cell.source and cell.cell_type == 'code']
    pictures = [output for output in cell.outputs if 'data' in output]
    assert len(pictures) == 2  # losses and what is mined; the proposals by score


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_is_committed_with_its_outputs(path: Path):
    assert path.stat().st_size < 1_000_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), 'run from top to bottom'
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs and not any(output.output_type == 'error' for output in outputs)
    assert not any(output.get('name') == 'stderr' for output in outputs)
    assert str(ROOT) not in path.read_text(), 'it names this computer'


def test_there_are_four():
    assert [path.stem for path in NOTEBOOKS] == [
        'compare_sampling',
        'detect_and_train',
        'inspect_hard_rois',
        'net_surgery_and_blobs',
    ]
