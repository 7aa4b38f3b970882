"""The arrows of docs/architecture.md: who may import whom, and by which names the detector knows Caffe."""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIB = ROOT / 'lib'

# The names of pycaffe that the detector may use: those that a built BVLC Caffe has too.
PYCAFFE = {
    'Layer', 'Net', 'get_solver', 'SGDSolver', 'TRAIN', 'TEST', 'set_mode_cpu', 'set_mode_gpu', 'set_device',
    'set_random_seed', 'layer_type_list', 'proto', 'io', 'NetSpec', 'layers', 'params', 'to_proto', 'log',
    'NCCL', 'has_nccl', 'set_solver_count', 'set_solver_rank', 'set_multiprocess',
}  # fmt: skip


@functools.cache
def nodes(path):
    """All nodes of a file's syntax tree; read once, for most tests ask for the same files."""
    return list(ast.walk(ast.parse(path.read_text())))


@functools.cache
def imports(path):
    """(module, names) of every import in a file; names is None for `import module`."""
    found = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((node.module, [alias.name for alias in node.names]))
    return found


def files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob('*.py'))]


def packages(path):
    return {module.split('.')[0] for module, _ in imports(path)}


# Package of lib -> the packages of lib that it may import, beside whole_file, by which all of them write files, ranks,
# by which several processes do one job, and project_root, where data and output lie. roi_data_layer and rpn may use
# leaves of the others alone.
ARROWS = {
    'whole_file': set(),
    'ranks': set(),
    'project_root': set(),
    'command_line': set(),
    'caffe': {'command_line'},
    'caffe_stand_ins': {'caffe'},
    'detection_data': set(),
    'roi_data_layer': {'caffe', 'caffe_stand_ins', 'detection_data', 'fast_rcnn'},
    'rpn': {'caffe', 'fast_rcnn', 'roi_data_layer'},
    'fast_rcnn': {'caffe', 'caffe_stand_ins', 'detection_data', 'roi_data_layer', 'rpn'},
    'projects': {'detection_data'},
    'transform': {'caffe', 'fast_rcnn'},
    'detection_nets': {'caffe'},
    'pretrained': {'caffe', 'detection_data', 'detection_nets'},
    'serving': {'detection_data'},
    'inspection': {'caffe', 'caffe_stand_ins', 'detection_data', 'fast_rcnn', 'roi_data_layer', 'rpn'},
}
DETECTOR = [f'lib/{package}' for package in ARROWS if package != 'caffe']


def test_every_package_of_lib_has_its_arrows():
    assert {path.parent.name for path in LIB.glob('*/__init__.py')} == set(ARROWS)


@pytest.mark.parametrize('package', ARROWS)
def test_imports_follow_the_arrows(package):
    for path in files(f'lib/{package}'):
        assert packages(path) & set(ARROWS) <= ARROWS[package] | {package, 'whole_file', 'ranks', 'project_root'}, path


def test_a_tool_may_import_the_first_of_its_packages_before_a_caffe_is_chosen():
    for path in files('lib/command_line'):
        assert packages(path) <= {'__future__', 'command_line', *sys.stdlib_module_names}, path


@pytest.mark.parametrize('path', files(*DETECTOR, 'tools'), ids=lambda p: p.name)
def test_the_detector_knows_caffe_by_the_names_of_pycaffe_alone(path):
    for module, names in imports(path):
        if module == 'caffe' or module.startswith('caffe.'):
            assert module in ('caffe', 'caffe.proto', 'caffe.io'), module
            assert names is None or module != 'caffe' or set(names) <= PYCAFFE
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == 'caffe':
            assert node.attr in PYCAFFE, f'caffe.{node.attr}'


@pytest.mark.parametrize('path', files(*DETECTOR), ids=lambda p: p.name)
def test_the_detector_runs_without_torch(path):
    reads_torch_files = path.name == 'torch_file.py'  # of those who have torch, by torch
    assert 'torch' not in packages(path) or reads_torch_files


def public_functions(body, within=''):
    """(name, its definition, whether it is a method) of the public functions of a module, and of its public classes."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith('_'):
            if isinstance(node, ast.ClassDef):
                yield from public_functions(node.body, f'{node.name}.')
            else:
                yield within + node.name, node, bool(within)


@pytest.mark.parametrize('path', files('lib', 'tools'), ids=lambda p: str(p.relative_to(ROOT)))
def test_public_functions_have_types(path):
    """mypy looks into them only then. Triton compiles its kernels, whose arguments have types of its own."""
    missing = []
    for name, function, is_method in public_functions(ast.parse(path.read_text()).body):
        if any('triton.jit' in ast.unparse(mark) for mark in function.decorator_list):
            continue
        given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        own = [arg for arg in given if not (is_method and arg.arg in ('self', 'cls'))]
        missing += [name] * (function.returns is None or any(arg.annotation is None for arg in own))
    assert missing == []


@pytest.mark.parametrize('name', ['config', 'bbox_transform', 'nms'])
def test_the_leaves_import_nothing_of_ours(name):
    path = LIB / 'fast_rcnn' / f'{name}.py'
    assert not packages(path) & {'roi_data_layer', 'detection_data', 'caffe'}
    assert not any(module.startswith('fast_rcnn') for module, _ in imports(path))


LEAVES = {
    'fast_rcnn.config', 'fast_rcnn.bbox_transform', 'fast_rcnn.nms', 'roi_data_layer.image_blob',
    'roi_data_layer.python_layer',
}  # fmt: skip


@pytest.mark.parametrize('package', ['roi_data_layer', 'rpn'])
def test_arrows_that_go_back_end_at_leaves(package):
    for path in files(f'lib/{package}'):
        used = {module for module, _ in imports(path) if module.startswith(('fast_rcnn', 'roi_data_layer'))}
        assert {module for module in used if not module.startswith(package)} <= LEAVES, path


# What may open a file for writing by itself, and why.
BY_HAND = {
    'lib/caffe/proto/compile.py': 'is run by hand, without lib on the path',
    'experiments/runs.py': 'a log, to which another program writes',
    'experiments/bench.py': 'into a temporary folder',
    'experiments/bench_nets.py': 'into a temporary folder',
    'experiments/bench_parts.py': 'into a temporary folder',
    'experiments/count_loading.py': 'into a temporary folder',
    'experiments/scaling.py': 'into a temporary folder',
    'experiments/large_set.py': 'data made up for a measurement, into a folder of their own',
    'lib/roi_data_layer/passing.py': 'memory that two processes share, not a file',
    'lib/fast_rcnn/training_lock.py': 'a lock, whose content nobody needs whole',
}


MOVES = ('os.replace', 'os.rename', 'shutil.move', 'cv2.imwrite', 'tempfile.NamedTemporaryFile')


def written_by_hand(path):
    """The calls in a file that write, rename or replace files in another way than by whole_file."""
    for node in nodes(path):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        first = ast.unparse(node.args[0]) if node.args else ''
        mode = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == 'mode')]
        changes = any(isinstance(m, ast.Constant) and set(str(m.value)) & set('wax+') for m in mode)
        opened = changes and (call == 'open' or (call == 'h5py.File' and re.search('path|name', first)))
        written = call.endswith(('.write_text', '.write_bytes')) and not call.startswith('whole_file.')
        saved = call.startswith('np.save') and first != 'file'
        if opened or written or saved or call in MOVES:
            yield ast.unparse(node)


@pytest.mark.parametrize(
    'path', files('lib', 'tools', 'experiments', 'data/scripts'), ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_are_written_by_whole_file_alone(path):
    place = str(path.relative_to(ROOT))
    if place.startswith('lib/whole_file/'):
        return
    if place in BY_HAND:
        assert list(written_by_hand(path)), 'this file does so no longer: take it out of BY_HAND'
        return
    assert list(written_by_hand(path)) == []


def ours(path, below='caffe'):
    """The modules of `below` that a file imports: 'caffe.blob' for `from caffe.blob import Blob`, too."""
    found = set()
    for module, names in imports(path):
        wholes = [f'{module}.{name}' for name in names or ()]
        found |= {name for name in wholes if name in MODULES} or {module}
    return {name for name in found if name == below or name.startswith(f'{below}.')}


MODULES = {
    '.'.join(part for part in path.relative_to(LIB).with_suffix('').parts if part != '__init__'): path
    for path in files('lib')
}


@pytest.mark.parametrize('path', files('lib/caffe/kernels'), ids=lambda p: p.name)
def test_kernels_know_nothing_of_caffe_but_kernels(path):
    assert {name for name in ours(path) if not name.startswith('caffe.kernels')} == set()


def registers_a_layer(path):
    return any(
        isinstance(mark, ast.Call) and getattr(mark.func, 'id', '') == 'register'
        for node in nodes(path)
        if isinstance(node, ast.ClassDef)
        for mark in node.decorator_list
    )


@pytest.mark.parametrize('path', files('lib/caffe/layers'), ids=lambda p: p.name)
def test_layers_know_no_layer_of_another_family(path):
    """A family is a file. Files of layers/ that hold no layer type (axes, labels, ...) are for all of them."""
    others = {name for name in ours(path, 'caffe.layers') if name in MODULES and name != 'caffe.layers'}
    assert {name for name in others if registers_a_layer(MODULES[name])} == set()


def test_no_circle_of_imports_in_lib():
    """Imports inside functions and under TYPE_CHECKING count, too: who knows whom is what matters."""
    waits_for = {name: {n for n in ours_anywhere(path) if n != name} for name, path in MODULES.items()}
    waited_for = {name: {n for n, needed in waits_for.items() if name in needed} for name in waits_for}
    for graph in (waits_for, waited_for):  # from both sides until nothing but circles is left
        while free := {name for name in waits_for if not graph[name] & waits_for.keys()}:
            waits_for = {name: needed for name, needed in waits_for.items() if name not in free}
    assert sorted(waits_for) == []


def ours_anywhere(path):
    return {name for package in ARROWS for name in ours(path, package)}


def test_the_architecture_page_names_every_file():
    page = (ROOT / 'docs' / 'architecture.md').read_text()
    own = [
        p
        for p in files('lib')
        if p.parent.name not in ('layers', 'command', 'proto', 'formats') and p.name != '__init__.py'
    ]
    assert [p.name for p in own if p.name not in page] == []


def test_no_two_test_files_share_a_name():
    """Test folders are no packages: pytest imports a file by its bare name and refuses the second one of a name."""
    names = [path.name for path in (ROOT / 'tests').rglob('*.py') if path.name != 'conftest.py']
    assert sorted(names) == sorted(set(names))
