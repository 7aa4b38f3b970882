"""What ranks send each other: None, numbers, text, arrays, and lists and dicts of them. Nothing that could run."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

_LENGTH = struct.Struct('>Q')


def pack(value: Any) -> bytes:
    """A value as bytes: JSON, and the arrays' numbers after it. Raises TypeError for what may not travel."""
    arrays: list[bytes] = []

    def plain(item):
        if isinstance(item, np.ndarray):
            if item.dtype.hasobject:
                raise TypeError(f'an array of {item.dtype} cannot be sent to another rank')
            arrays.append(np.ascontiguousarray(item).tobytes())
            return {'array': [item.dtype.str, list(item.shape)]}
        if isinstance(item, np.generic):
            return item.item()
        if isinstance(item, dict):
            return {'dict': [[plain(key), plain(value)] for key, value in item.items()]}
        if isinstance(item, list | tuple):
            return [plain(each) for each in item]
        if item is None or isinstance(item, bool | int | float | str):
            return item
        raise TypeError(f'a {type(item).__name__} cannot be sent to another rank')

    text = json.dumps(plain(value)).encode()
    return b''.join([_LENGTH.pack(len(text)), text, *arrays])


def unpack(data: bytes) -> Any:
    """The value that `pack` was given, with lists for tuples. Raises ValueError for anything else."""
    try:
        return _unpacked(data)
    except (struct.error, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f'{len(data)} bytes are no message of a rank: {error}') from None


def _unpacked(data: bytes) -> Any:
    (length,) = _LENGTH.unpack_from(data)
    at = [_LENGTH.size + length]

    def rich(item):
        if isinstance(item, list):
            return [rich(each) for each in item]
        if not isinstance(item, dict):
            return item
        if 'dict' in item:
            return {rich(key): rich(value) for key, value in item['dict']}
        dtype, shape = np.dtype(item['array'][0]), item['array'][1]
        array = np.frombuffer(data, dtype, int(np.prod(shape)), at[0]).reshape(shape).copy()
        at[0] += array.nbytes
        return array

    return rich(json.loads(data[_LENGTH.size : at[0]]))
