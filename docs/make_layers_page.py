"""Writes docs/layers.md from the registry of layer types, caffe.proto and the tests.

    python docs/make_layers_page.py

A test fails while the page is not what this script makes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'lib'))

from command_line import environment  # noqa: E402

environment.say_what_is_missing(Path(__file__).name)

from google.protobuf import text_format  # noqa: E402
from google.protobuf.descriptor import FieldDescriptor  # noqa: E402

import caffe  # noqa: E402 (registers the types)
from caffe.layer import layer_type_list, native_type  # noqa: E402
from caffe.proto import caffe_pb2  # noqa: E402

PAGE = ROOT / 'docs' / 'layers.md'
INTRO = """# Layers

Made by `docs/make_layers_page.py`; run it again when a layer, an option or a test changes.

Every type runs in CPU and in GPU mode. *host* means that its forward pass works in the host's memory in both,
as layers that read files do, and sends its tops to the GPU. *Gradient*: *checked* against finite differences by
`tests/caffe/test_every_type.py`; *none* means that there is no gradient, or only zeros, as in Caffe. What each type
refuses, and with what message: an example of each is in `tests/caffe/test_every_types_bad_input.py`.
*Recorded* names the cases of `tests/golden/layers`, whose outputs and gradients come from the original Caffe;
they run in CPU mode and on the simulated device.

The detector's own layers, mining among them, are Python layers: [they stand last](#python-layers-of-the-detector).
"""
MORE = """
`Python` layers are the user's classes (`python_param`: module, layer, param_str). `Recurrent` is the base of
LSTM and RNN. Each layer has besides its own options the fields of `LayerParameter`: name, type, bottom, top,
phase, loss_weight, param, propagate_down, include, exclude.
"""

PYTHON_LAYERS = """## Python layers of the detector

Any prototxt may name them: `type: "Python" python_param { module: "..." layer: "..." param_str: "..." }`. What their
bottoms, tops and parameters are: `help(module.layer)`, and the page.

| module | layer | | more |
| --- | --- | --- | --- |"""
# Whose layers they are by what their names start with, and where they are described
PAGES = {
    'roi_data_layer.layer': {
        'ASDN': '[A-Fast-RCNN](a-fast-rcnn.md#the-layers)',
        '': '[a training net](../README.md#what-a-training-net-looks-like)',
    },
    'rpn.anchor_target_layer': {'': '[Faster R-CNN](faster-rcnn.md)'},
    'rpn.proposal_layer': {'': '[Faster R-CNN](faster-rcnn.md)'},
    'rpn.proposal_target_layer': {'': '[Faster R-CNN](faster-rcnn.md)'},
    'transform.torch_image_transform_layer': {'': '[weights trained in Torch](your-own-data.md)'},
    'caffe_stand_ins.layers': {'': 'for a Caffe that lacks the types'},
}


def page() -> str:
    """The page's text."""
    gradients, recorded = gradients_checked(), recorded_cases()
    rows = ['| type | bottoms | tops | mode | gradient | recorded |', '| --- | --- | --- | --- | --- | --- |']
    sections = []
    for name in native_types():
        cls = native_type(name)
        mode = 'host' if works_on_host(cls) else 'CPU, GPU'
        gradient = 'checked' if name in gradients else 'none'
        cells = (count(cls.num_bottom), count(cls.num_top), mode, gradient, ', '.join(recorded[name]))
        rows.append(f'| [{name}](#{name.lower()}) | {" | ".join(cells)} |')
        sections.append(section(name, cls))
    return '\n'.join([INTRO, *rows, MORE, *sections, PYTHON_LAYERS, *python_layers(), ''])


def python_layers() -> list[str]:
    """A row for each Python layer of the detector."""
    rows = []
    for module, pages in PAGES.items():
        classes = vars(importlib.import_module(module)).items()
        for name, cls in sorted(classes, key=lambda item: item[0]):
            if inspect.isclass(cls) and issubclass(cls, caffe.Layer) and cls.forward is not caffe.Layer.forward:
                text = inspect.getdoc(cls).split('\n\n')[0].replace('\n', ' ')
                text = text if name == cls.__name__ else f'{cls.__name__} by its first name'
                where = next(more for start, more in pages.items() if name.startswith(start))
                rows.append(f'| `{module}` | `{name}` | {text} | {where} |')
    return rows


def native_types() -> list[str]:
    """All types but Python, whose classes are the users'."""
    return [name for name in layer_type_list() if name != 'Python']


def section(name: str, cls: type) -> str:
    """What a type is, and its options with their defaults."""
    summary = inspect.getdoc(cls).split('\n\n')[0].replace('\n', ' ')
    lines = [f'## {name}', '', summary, '']
    for field in option_fields(cls):
        message = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name[field].message_type
        options = ', '.join(option(f) for f in message.fields)
        lines += [f'`{field}` ({message.name}): {options}', '']
    return '\n'.join(lines)


def source_of(cls: type) -> str:
    """The source of a type, and of what it inherits from other types."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith('caffe.layers')]
    return ''.join(inspect.getsource(base) for base in bases)


def option_fields(cls: type) -> list[str]:
    """The fields of LayerParameter that a type reads."""
    shared = [f for f in ('transform_param', 'loss_param') if f'layer_param.{f}' in source_of(cls)]
    return ([cls.param_field] if cls.param_field else []) + shared


def option(field: FieldDescriptor) -> str:
    """A field as `name = default`, `name: type` without a default, or with [] if it may repeat."""
    if field.default_value == []:  # how a repeated field tells in every protobuf
        return f'{field.name}[]'
    if field.message_type:
        return f'{field.name} {{ {field.message_type.name} }}'
    if not field.has_default_value:
        return field.name
    value = field.default_value
    if field.enum_type:
        value = field.enum_type.values_by_number[value].name
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, str):
        value = f'"{value}"'
    elif isinstance(value, float):
        value = f'{value:.6g}'
    return f'{field.name} = {value}'


def count(number) -> str:
    """A layer's number of blobs: 2, 1-3, 1+."""
    if isinstance(number, int):
        return str(number)
    least, most = number
    return f'{least}+' if most is None else f'{least}-{most}'


def works_on_host(cls: type) -> bool:
    """Whether the forward pass writes NumPy arrays."""
    return re.search(r'write_batch|\.data\[|\bfill\(|\.cpu\(', inspect.getsource(cls.forward)) is not None


def recorded_cases() -> dict[str, list[str]]:
    """Type -> the cases of tests/golden/layers."""
    cases = defaultdict(list)
    for path in sorted((ROOT / 'tests/golden/layers').glob('*.prototxt')):
        net = text_format.Parse(path.read_text(), caffe_pb2.NetParameter())
        for layer in net.layer:
            if layer.name == 'layer':
                cases[layer.type].append(path.stem)
    return cases


def gradients_checked() -> set[str]:
    """The types that have an example in tests/caffe/test_every_type.py, which fails where a type has none."""
    tree = ast.parse((ROOT / 'tests/caffe/test_every_type.py').read_text())
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    (examples,) = [node.value for node in assigned if ast.unparse(node.targets[0]) == 'EXAMPLES']
    return set(map(ast.literal_eval, examples.keys))


if __name__ == '__main__':
    PAGE.write_text(page())
    print(PAGE)
