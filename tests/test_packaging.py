"""What pyproject.toml promises: what has to be installed for what, and what `import caffe` loads."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings it
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())
PROJECT = PYPROJECT['project']
DISTRIBUTIONS = {
    'cv2': 'opencv-contrib-python-headless', 'google': 'protobuf', 'yaml': 'pyyaml', 'PIL': 'pillow',
    'python_multipart': 'python-multipart', 'prometheus_client': 'prometheus-client',
}  # fmt: skip
OPTIONAL = {'triton', 'tensorboard', 'grpc_tools', 'onnx', 'sklearn'}  # used where they are


def names(requirements):
    return {re.match(r'[\w.-]+', each)[0] for each in requirements}


def third_party(*folders):
    """The distributions that files below `folders` of the project import, function-level imports too."""
    ours = {path.name for path in (ROOT / 'lib').iterdir()} | {path.stem for path in (ROOT / 'tools').glob('*.py')}
    found = set()
    for folder in folders:
        for path in (ROOT / folder).rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text())):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    modules = [node.module]
                found |= {module.split('.')[0] for module in modules}
    found -= ours | set(sys.stdlib_module_names) | OPTIONAL
    return {DISTRIBUTIONS.get(name, name) for name in found}


def test_the_engine_alone_needs_the_dependencies_and_no_more():
    assert third_party('lib/caffe', 'lib/command_line', 'lib/ranks', 'lib/whole_file') == names(PROJECT['dependencies'])


def test_the_detector_needs_its_extra_besides():
    engine, extra = names(PROJECT['dependencies']), names(PROJECT['optional-dependencies']['detector'])
    folders = [
        f'lib/{path.name}'
        for path in (ROOT / 'lib').iterdir()
        if path.name not in ('caffe', 'command_line', 'ranks', 'whole_file', 'serving')
    ]
    needed = third_party(*folders, 'tools')
    assert needed - engine == extra


def test_the_server_needs_its_extra_besides():
    extras = PROJECT['optional-dependencies']
    detector = names(PROJECT['dependencies']) | names(extras['detector'])
    assert third_party('lib/serving') - detector == names(extras['serve'])


def test_make_installs_all_of_it():
    pinned = names(line for line in (ROOT / 'requirements.txt').read_text().splitlines() if not line.startswith('#'))
    extras = PROJECT['optional-dependencies']
    asked = [
        *PROJECT['dependencies'],
        *extras['detector'],
        *extras['export'],
        *extras['svm'],
        *extras['serve'],
        *extras['test'],
    ]
    needed = names(asked) - {PROJECT['name']}
    assert {name.lower() for name in needed} <= {name.lower() for name in pinned}


def test_every_package_says_in_the_wheel_that_it_is_typed_and_is_checked():
    """PEP 561: a type checker reads the types of an installed package only if `py.typed` lies in it."""
    packages = {path.parent.name for path in ROOT.glob('lib/*/__init__.py')}
    in_the_wheel = PYPROJECT['tool']['setuptools']['package-data']
    assert {name for name, files in in_the_wheel.items() if 'py.typed' in files} == packages
    assert {path.parent.name for path in ROOT.glob('lib/*/py.typed')} == packages
    assert {f'lib/{name}' for name in packages} | {'tools'} == set(PYPROJECT['tool']['mypy']['files'])


def python(*arguments, path=ROOT / 'lib', cwd=ROOT, status=0):
    """Runs Python with `path`, a folder or several, as PYTHONPATH."""
    path = os.pathsep.join(map(str, [path] if isinstance(path, Path) else path))
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': path, 'GLOG_minloglevel': '2'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_import_caffe_loads_little_beside_torch():
    """What reads images, HDF5 and LMDB is loaded when it is used; of Pillow the name alone is, not what it can do."""
    loaded = python(
        '-c', 'import sys, torch; before = set(sys.modules); import caffe; print(*set(sys.modules) - before)'
    ).split()
    packages = {name.split('.')[0] for name in loaded} - set(sys.stdlib_module_names)
    assert packages <= {'caffe', 'command_line', 'ranks', 'whole_file', 'google', 'numpy', 'torch', 'PIL'}
    assert 'PIL.Image' not in loaded


def test_the_engine_works_without_what_only_the_detector_needs():
    blocked = ['easydict', 'yaml', 'pycocotools', 'PIL', 'matplotlib', 'tqdm', 'jinja2']
    python(
        '-c',
        f'import sys, torch; sys.modules.update(dict.fromkeys({blocked}))\n'  # None: importing it fails
        'import caffe; from caffe import layers as L\n'
        'n = caffe.NetSpec(); n.x = L.Input(shape=dict(dim=[1, 3, 8, 8])); n.y = L.Convolution(n.x, kernel_size=3,'
        'num_output=2)\n'
        'open("/dev/null", "w").write(str(n.to_proto()))\n'
        'import caffe.__main__, caffe.draw, caffe.io, caffe.coord_map',
    )


def test_the_command_caffe():
    """As the script that pip writes for it calls it."""
    module, _, function = PROJECT['scripts']['caffe'].partition(':')
    code = f'import sys; from {module} import {function}; sys.argv[0] = "caffe"; sys.exit({function}())'
    out = python('-c', code, 'summary', 'models/demo/small/fast_rcnn/test.prototxt')
    assert 'cls_prob' in out
    python('-c', code, 'summary', 'no.prototxt', status=1)
