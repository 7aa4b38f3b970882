"""A net's prototxt made for another number of classes, as text: comments and layout stay."""

from __future__ import annotations

import re

# Strings, comments and braces of a prototxt
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|#[^\n]*|[{}]')
_NUM_CLASSES = re.compile(r"""(['"]?num_classes['"]?\s*:\s*)(\d+)""")
_NUM_OUTPUT = re.compile(r'(\bnum_output\s*:\s*)(\d+)')


class SetClassesError(ValueError):
    """A prototxt whose layers do not say for how many classes they are."""


def set_classes(text: str, num_classes: int, path: str = 'the prototxt') -> str:
    """The prototxt of a detection net for `num_classes` classes, the background included.

    Changed are `num_classes` in the param_str of Python layers, and num_output of layers whose name begins with
    cls_score (one a class) and bbox_pred (four a class). Raises SetClassesError, with `path`, where there is no such
    layer, or where they are not for one number of classes now.
    """
    if num_classes < 2:
        raise ValueError(f'num_classes is {num_classes}; expected 2 or more, the background being one')
    if 'PSROIPooling' in text:
        raise SetClassesError(
            f'{path}: a net of R-FCN, whose classes are in the number of its maps: tools/make_nets.py --method '
            f'rfcn_end2end_ohem --classes {num_classes - 1} --out FOLDER writes one'
        )
    pieces, done, found = [], 0, {}
    for start, end in layer_blocks(text):
        block = text[start:end]
        named = re.search(r'\bname\s*:\s*["\']([^"\']*)["\']', block)
        name = named[1] if named else ''
        each = 4 if name.startswith('bbox_pred') else 1 if name.startswith('cls_score') else 0
        if each:
            number = _NUM_OUTPUT.search(block)
            if number is None or int(number[2]) % each:
                raise SetClassesError(f'{path}: layer {name!r} has no num_output that is a multiple of {each}')
            found[f'num_output of {name}'] = int(number[2]) // each
            block = _NUM_OUTPUT.sub(rf'\g<1>{each * num_classes}', block, count=1)
        in_param_str = _NUM_CLASSES.search(block)
        if in_param_str:
            found[f'num_classes of {name}'] = int(in_param_str[2])
            block = _NUM_CLASSES.sub(rf'\g<1>{num_classes}', block)
        pieces += [text[done:start], block]
        done = end
    if not found:
        raise SetClassesError(
            f'{path}: no layer named cls_score or bbox_pred, and no num_classes: not a detection net?'
        )
    if len(set(found.values())) > 1:
        said = ', '.join(f'{what} is for {count}' for what, count in found.items())
        raise SetClassesError(f'{path}: its layers are not for one number of classes: {said}')
    return ''.join([*pieces, text[done:]])


def layer_blocks(text: str) -> list[tuple[int, int]]:
    """(start, end) of the text of each `layer { ... }` or `layers { ... }` of a prototxt."""
    blocks, depth, start = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token.group() == '{':
            if depth == 0:
                start = token.start()
            depth += 1
        elif token.group() == '}':
            depth -= 1
            if depth == 0 and re.search(r'\blayers?\s*:?\s*$', text[:start]):
                blocks.append((start, token.end()))
    return blocks
