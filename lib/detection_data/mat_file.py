"""Reading MATLAB files of version 5 (`save -v6`, `-v7`, the default) in Python alone: numbers, texts, cells of these.

A reader of our own because a damaged file makes scipy's end the whole process. Every size that the file states is
held against the bytes that are there before it is believed. Source: MathWorks, "MAT-File Format", Level 5.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Sequence

import numpy as np

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 9: 'f8', 12: 'i8', 13: 'u8',
}  # fmt: skip
_TEXTS = {1: 'latin-1', 2: 'latin-1', 4: 'utf-16', 16: 'utf-8', 17: 'utf-16', 18: 'utf-32'}
_CELL, _CHAR = 1, 4
_NUMERIC_CLASSES = range(6, 16)
_DEEPEST = 8  # cells in cells
_MOST_PACKED = 1032  # bytes that one byte of a zlib stream can stand for


class MatError(ValueError):
    """A file that cannot be read; the message names it, and says what to do where that is known."""


class _Damaged(Exception):
    pass


def read_variables(path: str, names: Sequence[str]) -> tuple[dict[str, object], list[str]]:
    """The variables `names` of a MATLAB file, and the names of all that are in it.

    Returns ({name: value}, all names). A value is an array of numbers, a text, or for a cell array the list of its
    values column by column; None for anything else (structures, sparse matrices, complex numbers).

    Raises MatError: no MATLAB file, one of another version, or a damaged one. FileNotFoundError: there is none.
    """
    with open(path, 'rb') as f:
        data = f.read()
    if data[:10] == b'MATLAB 7.3' or data[:4] == b'\x89HDF' or data[512:516] == b'\x89HDF':
        raise MatError(f"{path}: a MATLAB 7.3 file (HDF5); save it anew in MATLAB with save('FILE.mat', ..., '-v7')")
    order = {b'IM': '<', b'MI': '>'}.get(data[126:128])
    if len(data) < _HEADER or order is None:
        kind = 'a MATLAB 4 file, or none' if len(data) > 20 and data[1:4] == b'\0\0\0' else 'not a MATLAB file'
        raise MatError(f"{path}: {kind}; expected one that MATLAB saved with save('FILE.mat', ..., '-v7')")
    found, there = {}, []
    try:
        for name, value in _variables(memoryview(data)[_HEADER:], order, names):
            there.append(name)
            if name in names:
                found[name] = value
    except (_Damaged, zlib.error, UnicodeDecodeError) as e:
        raise MatError(f'{path}: a damaged MATLAB file ({e}); fetch it again, {os.path.getsize(path)} bytes') from None
    return found, there


def _variables(data: memoryview, order: str, names: Sequence[str]):
    while len(data):
        kind, content, data = _element(data, order, padded=False)
        if kind == _COMPRESSED:
            kind, content = _unpacked(content, order)
        if kind == _MATRIX:
            yield _matrix(content, order, names, 0)


def _unpacked(content: memoryview, order: str) -> tuple[int, memoryview]:
    """The one element in a zlib stream, of the size it states, and no more of it is unpacked than that."""
    stream = zlib.decompressobj()
    tag = stream.decompress(content, 8)
    if len(tag) < 8:
        raise _Damaged('a packed variable is cut off')
    kind, size = (int(v) for v in np.frombuffer(tag, order + 'u4'))
    if size > _MOST_PACKED * len(content):
        raise _Damaged(f'{len(content)} packed bytes are said to hold {size}')
    unpacked = stream.decompress(stream.unconsumed_tail, size) if size else b''
    if len(unpacked) < size:
        raise _Damaged('a packed variable is cut off')
    return kind, memoryview(unpacked)


def _element(data: memoryview, order: str, padded: bool = True) -> tuple[int, memoryview, memoryview]:
    """(type, content, what follows) of the data element that `data` begins with."""
    if len(data) < 8:
        raise _Damaged('a data element is cut off')
    first, second = (int(v) for v in np.frombuffer(data[:8], order + 'u4'))
    if first >> 16:  # a small element: size, type and up to 4 bytes in one tag
        size, kind = first >> 16, first & 0xFFFF
        if size > 4:
            raise _Damaged(f'a small data element of {size} bytes')
        return kind, data[4 : 4 + size], data[8:]
    if second > len(data) - 8:
        raise _Damaged(f'a data element of {second} bytes, of which {len(data) - 8} are there')
    end = 8 + second
    if padded:
        end = min(len(data), (end + 7) // 8 * 8)
    return first, data[8 : 8 + second], data[end:]


def _matrix(data: memoryview, order: str, names: Sequence[str] | None, depth: int) -> tuple[str, object]:
    """(name, value) of a matrix; the value is None if it is not one of `names` (None: all) or of no known class."""
    if depth > _DEEPEST:
        raise _Damaged(f'cells in cells, more than {_DEEPEST} deep')
    if len(data) == 0:  # an empty cell
        return '', np.zeros((0, 0))
    _, flags, data = _element(data, order)
    _, dimensions, data = _element(data, order)
    _, label, data = _element(data, order)
    if len(flags) < 8 or len(dimensions) % 4 or len(dimensions) < 8:
        raise _Damaged('a matrix without flags or sizes')
    name = bytes(label).decode('latin-1')
    flag = int(np.frombuffer(flags[:4], order + 'u4')[0])
    kind, is_complex = flag & 0xFF, bool(flag & 0x0800)
    if (names is not None and name not in names) or is_complex:
        return name, None
    shape = tuple(int(v) for v in np.frombuffer(dimensions, order + 'i4'))
    if min(shape) < 0:
        raise _Damaged(f'a matrix of size {"x".join(map(str, shape))}')
    count = math.prod(shape)
    if kind == _CELL:
        if count > len(data) // 8:
            raise _Damaged(f'a cell array of {count} cells in {len(data)} bytes')
        values = []
        for _ in range(count):
            element, content, data = _element(data, order)
            if element != _MATRIX:
                raise _Damaged(f'a cell of type {element}')
            values.append(_matrix(content, order, None, depth + 1)[1])
        return name, values
    if kind == _CHAR or kind in _NUMERIC_CLASSES:
        element, content, _ = _element(data, order)
        if kind == _CHAR and element in _TEXTS:
            coding = _TEXTS[element]
            if coding[:4] == 'utf-' and coding != 'utf-8':
                coding += '-le' if order == '<' else '-be'
            return name, bytes(content).decode(coding)
        if element not in _NUMBERS:
            raise _Damaged(f'numbers of type {element}')
        dtype = np.dtype(order + _NUMBERS[element])
        if count * dtype.itemsize != len(content):
            raise _Damaged(f'{"x".join(map(str, shape))} numbers in {len(content)} bytes')
        return name, np.frombuffer(content, dtype).reshape(shape, order='F')
    return name, None
