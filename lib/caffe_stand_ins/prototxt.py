"""A net's prototxt rewritten for a Caffe that lacks layer types of it."""

import os
import re
from collections.abc import Iterator

import caffe
import whole_file

# Strings, comments and braces of a prototxt
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|#[^\n]*|[{}]')
_PARAMETERS = {'ROIPooling': 'roi_pooling_param', 'SmoothL1Loss': 'smooth_l1_loss_param'}


def lacking() -> list[str]:
    """The layer types with a stand-in that this Caffe lacks."""
    known = caffe.layer_type_list() if hasattr(caffe, 'layer_type_list') else list(_PARAMETERS)
    return [name for name in _PARAMETERS if name not in known]


def prototxt_with_stand_ins(path: str, folder: str) -> str:
    """The net prototxt to load: `path`, or a rewritten copy in `folder` where Caffe lacks one of its layer types."""
    missing = lacking()
    if not missing:
        return path
    with open(path, encoding='utf-8') as stream:
        text = stream.read()
    rewritten = rewrite(text, missing)
    if rewritten == text:
        return path
    copy = os.path.join(folder, 'python_layers_' + os.path.basename(path))
    whole_file.write_text(copy, rewritten)
    return copy


def rewrite(text: str, missing: list[str]) -> str:
    """The prototxt `text` with layers of the types `missing` turned into the Python layers of `layers`.

    It works on the text, because a Caffe that lacks the type lacks its parameter message as well and could
    not parse it.
    """
    if not missing:
        return text
    text = _TOKEN.sub(lambda token: '' if token.group().startswith('#') else token.group(), text)
    pieces, done = [], 0
    for start, end in layer_blocks(text):
        block = text[start:end]
        kind = re.search(r'\btype\s*:\s*"(\w+)"', block)
        if not kind or kind.group(1) not in missing:
            continue
        name = kind.group(1)
        given = re.search(rf'\b{_PARAMETERS[name]}\s*:?\s*{{([^}}]*)}}', block)
        values = re.findall(r'(\w+)\s*:\s*([-+.\w]+)', given.group(1)) if given else []
        params = ', '.join(f"'{key}': {value}" for key, value in values)
        python = (
            f'python_param {{ module: "caffe_stand_ins.layers" layer: "{name.replace("ROI", "RoI")}" '
            f'param_str: "{{{params}}}" }}'
        )
        block = block.replace(given.group(0), '') if given else block
        block = block.replace(kind.group(0), f'type: "Python" {python}')
        pieces += [text[done:start], block]
        done = end
    return ''.join(pieces) + text[done:]


def layer_blocks(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of the braces of each top-level `layer { ... }`, whatever strings hold."""
    depth, start = 0, None
    for token in _TOKEN.finditer(text):
        if token.group() == '{':
            if depth == 0 and re.search(r'\blayer\s*:?\s*$', text[: token.start()]):
                start = token.start()
            depth += 1
        elif token.group() == '}':
            depth -= 1
            if depth == 0 and start is not None:
                yield start, token.end()
                start = None
