"""Fully connected layers in two, by truncated SVD: Fast R-CNN, section 3.1.

A layer of u x v weights becomes <layer>_L, k x v without bias, and <layer>_U, u x k with the bias: k (u + v) weights in
place of u v. The names are those of the compressed nets that Fast R-CNN published.
"""

import re
from collections.abc import Mapping

import numpy as np
from scipy.linalg import eigh

import caffe
from caffe_stand_ins.prototxt import layer_blocks

PUBLISHED_RANKS = {'fc6': 1024, 'fc7': 256}
"""Those of Fast R-CNN's models/*/compressed/test.prototxt."""

_COLUMNS = 4096  # of the weights that are in double precision at a time


class CompressionError(ValueError):
    """A layer that cannot be had in two, and why."""


def truncated_svd(weights: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The factors U (u, rank) and L (rank, v), float32, whose product is nearest `weights` (u, v) of all of that rank.

    Only the `rank` leading eigenvectors of the smaller of W W' and W' W are computed, in double precision; the other
    factor is the projection of the weights on them. Also returns what is lost: the Frobenius norm of W - U L as a
    share of that of W. Raises CompressionError for a rank outside 1 .. min(u, v), or weights that are not finite.
    """
    if not 1 <= rank <= min(weights.shape):
        raise CompressionError(
            f'the rank is {rank}, and the weights are {weights.shape[0]} x {weights.shape[1]}: expected 1 to '
            f'{min(weights.shape)}'
        )
    if not np.isfinite(weights).all():
        raise CompressionError('some of the weights are not finite numbers')
    wide = weights if weights.shape[0] <= weights.shape[1] else weights.T
    gram = np.zeros((len(wide), len(wide)))
    for start in range(0, wide.shape[1], _COLUMNS):
        columns = wide[:, start : start + _COLUMNS].astype(np.float64)
        gram += columns @ columns.T
    total = np.trace(gram)
    energies, vectors = eigh(gram, subset_by_index=[len(gram) - rank, len(gram) - 1], overwrite_a=True)
    vectors = np.ascontiguousarray(vectors[:, ::-1], np.float32)
    projected = vectors.T @ wide.astype(np.float32, copy=False)
    lost = float(np.sqrt(max(total - energies.sum(), 0) / total)) if total > 0 else 0.0
    return (vectors, projected, lost) if wide is weights else (projected.T.copy(), vectors.T.copy(), lost)


def compressed_prototxt(text: str, ranks: Mapping[str, int], path: str = 'the prototxt') -> str:
    """The prototxt of a net to test, with each InnerProduct layer of `ranks` in two, of that rank; comments stay.

    The top keeps its name, so what reads it stays as it is. Raises CompressionError, with `path`, where a layer is not
    there or is not one that can be had in two.
    """
    if re.search(r'\blayers\s*:?\s*{', _without_comments(text)):
        raise CompressionError(f'{path} is in an old format of Caffe: python -m caffe upgrade puts it into the new one')
    pieces, done, found, others = [], 0, set(), []
    for start, end in layer_blocks(text):
        name = _value(text[start:end], 'name')
        if _value(text[start:end], 'type') == 'InnerProduct':
            others.append(str(name))
        if name is None or name not in ranks:
            continue
        if name in found:
            raise CompressionError(f'{path} has two layers {name}: give the prototxt of a net to test')
        found.add(name)
        keyword = text.rfind('layer', 0, start)
        indent = text[text.rfind('\n', 0, keyword) + 1 : keyword]
        pieces += [
            text[done:keyword],
            _in_two(text[keyword:end], name, ranks[name], path, indent if indent.isspace() else ''),
        ]
        done = end
    missing = [name for name in ranks if name not in found]
    if missing:
        raise CompressionError(
            f'{path} has no layer {", ".join(missing)}; its InnerProduct layers are: {", ".join(others) or "none"}'
        )
    return ''.join([*pieces, text[done:]])


def ranks_of(net: caffe.Net) -> dict[str, int]:
    """The layers of a loaded net that are in two, <layer>_L and <layer>_U, with their ranks."""
    lower = [name.removesuffix('_L') for name in net.params if name.endswith('_L')]
    return {name: net.params[f'{name}_L'][0].data.shape[0] for name in lower if f'{name}_U' in net.params}


def compressed_name(caffemodel: str, ranks: Mapping[str, int]) -> str:
    """The family's name for the weights of a compressed net: <weights>_svd_fc6_1024_fc7_256.caffemodel."""
    stem = caffemodel.removesuffix('.h5').removesuffix('.caffemodel')
    return f'{stem}_svd{"".join(f"_{name}_{rank}" for name, rank in ranks.items())}.caffemodel'


def compress(net: caffe.Net, compressed: caffe.Net) -> dict[str, float]:
    """Fills the layers in two of the net `compressed` by those of `net`; what each loses, as `truncated_svd` says.

    Layers that `net` has in two already are passed over. Raises CompressionError where the nets do not fit together.
    """
    lost = {}
    for name, rank in ranks_of(compressed).items():
        if name in ranks_of(net):
            continue
        lower, upper = compressed.params[f'{name}_L'], compressed.params[f'{name}_U']
        if name not in net.params:
            raise CompressionError(f'the compressed net has {name}_L and {name}_U, and the net has no layer {name}')
        weights, *bias = (blob.data for blob in net.params[name])
        expected = {'L': (rank, weights.shape[1]), 'U': (weights.shape[0], rank)}
        for part, blobs in (('L', lower), ('U', upper)):
            if blobs[0].data.shape != expected[part] or len(blobs) != 1 + (part == 'U') * len(bias):
                raise CompressionError(
                    f'{name}_{part} of the compressed net has weights of {blobs[0].data.shape} and '
                    f'{len(blobs) - 1} biases; {name}, {weights.shape}, in two of rank {rank} needs {expected[part]} '
                    f'and {(part == "U") * len(bias)}'
                )
        try:
            upper[0].data[...], lower[0].data[...], lost[name] = truncated_svd(weights, rank)
        except CompressionError as error:
            raise CompressionError(f'layer {name}: {error}') from None
        if bias:
            upper[1].data[...] = bias[0]
    return lost


def _in_two(block: str, name: str, rank: int, path: str, indent: str) -> str:
    """The text of two layers in place of one; `indent` stands before its first line."""
    bare = _without_comments(block)
    if _value(bare, 'type') != 'InnerProduct':
        raise CompressionError(
            f'{path}: layer {name} is of type {_value(bare, "type")}; only InnerProduct can be in two'
        )
    if re.search(r'\btranspose\s*:\s*true\b', bare):
        raise CompressionError(f'{path}: the weights of layer {name} are transposed, which is not supported')
    if re.search(r'\bparam\s*:?\s*{[^}]*\bname\s*:', bare):
        raise CompressionError(f'{path}: layer {name} shares its weights by name: give the prototxt of a net to test')
    bottom = _value(bare, 'bottom')
    if bottom is None or _value(bare, 'top') is None:
        raise CompressionError(f'{path}: layer {name} has no bottom, or no top')
    axis = re.search(r'\baxis\s*:\s*-?\d+', bare)
    rules = ''.join(f'{indent}  {rule}\n' for rule in re.findall(r'\b(?:in|ex)clude\s*:?\s*{[^}]*}', bare))
    first = (
        f'# {name} in two, of rank {rank}\n{indent}layer {{\n'
        f'{indent}  name: "{name}_L" type: "InnerProduct" bottom: "{bottom}" top: "{name}_L"\n{rules}'
        f'{indent}  inner_product_param {{ num_output: {rank} bias_term: false{" " + axis[0] if axis else ""} }}\n'
        f'{indent}}}\n{indent}'
    )
    second = _with_value(_with_value(block, 'name', f'{name}_U'), 'bottom', f'{name}_L')
    return first + second


def _value(block: str, field: str) -> str | None:
    """The first text that `field` has in a block."""
    found = re.search(rf'\b{field}\s*:\s*["\']([^"\']*)["\']', _without_comments(block))
    return found[1] if found else None


def _with_value(block: str, field: str, value: str) -> str:
    """The block with another text for the first `field` that is in no comment."""
    for found in re.finditer(rf'(\b{field}\s*:\s*)["\'][^"\']*["\']', block):
        line = block[block.rfind('\n', 0, found.start()) + 1 : found.start()]
        if '#' not in line:
            return f'{block[: found.start()]}{found[1]}"{value}"{block[found.end() :]}'
    return block


def _without_comments(text: str) -> str:
    return re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|#[^\n]*', lambda m: '' if m[0][0] == '#' else m[0], text)
