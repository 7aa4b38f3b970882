"""Protobuf's wire format, walked in place: the fields of a message, without copying their contents.

A .caffemodel is a few hundred messages around some large arrays. Parsing it as a whole would make a second
copy of the arrays; here each is found by its place in the file. See
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTH = {FIXED64: 8, FIXED32: 4}


class WireError(ValueError):
    """Bytes that are no protobuf message: `offset` of the first that cannot be read, and the `reason`."""

    def __init__(self, offset: int, reason: str):
        self.offset, self.reason = offset, reason
        super().__init__(f'byte {offset}: {reason}')


Buffer = bytes | mmap.mmap | np.ndarray


class Field(NamedTuple):
    """One field of a message, or a run of fixed-width fields of the same number.

    start, stop: the bytes of the value. value: of a varint, as an unsigned 64-bit number, else 0. repeats: the
    fields of the run; they lie `stride` bytes apart, for each has its key before it.
    """

    number: int
    kind: int
    start: int
    stop: int
    value: int = 0
    repeats: int = 1
    stride: int = 0


def fields(buffer: Buffer, start: int, stop: int) -> Iterator[Field]:
    """The fields of the message in buffer[start:stop], in order. Raises WireError where it is malformed.

    buffer: bytes, or anything else that NumPy can look into and that gives integers when indexed, such as
    mmap. Only the keys and lengths are read; no length is trusted before it is known to fit.
    """
    position = start
    while position < stop:
        at = position
        key, position = varint(buffer, position, stop)
        number, kind = key >> 3, key & 7
        if number == 0 or number >= 2**29:
            raise WireError(at, f'{number} is not the number of a field')
        if kind == VARINT:
            value, end = varint(buffer, position, stop)
            yield Field(number, kind, position, end, value)
        elif kind == BYTES:
            length, position = varint(buffer, position, stop)
            end = _end(position, length, stop, number)
            yield Field(number, kind, position, end)
        elif kind in _WIDTH:
            _end(position, _WIDTH[kind], stop, number)
            stride = position - at + _WIDTH[kind]
            count = _run(buffer, at, stop, position - at, stride)
            end = at + count * stride
            yield Field(number, kind, position, end, 0, count, stride)
        else:
            raise WireError(at, f'field {number} has the unknown wire type {kind}')
        position = end


def inside(buffer: Buffer, message: Field) -> Iterator[Field]:
    """The fields of the message that a field holds."""
    if message.kind != BYTES:
        raise WireError(message.start, f'field {message.number} should hold a message')
    return fields(buffer, message.start, message.stop)


def varint(buffer: Buffer, position: int, stop: int) -> tuple[int, int]:
    """A varint and the position after it. Raises WireError if `stop` or 64 bits come first."""
    value = 0
    for i in range(10):
        if position + i >= stop:
            raise WireError(position, 'the data end inside a number')
        byte = buffer[position + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value & (2**64 - 1), position + i + 1
    raise WireError(position, 'a number of more than 64 bits')


def signed(value: int) -> int:
    """A varint's value as int32 and int64 fields mean it."""
    return value - 2**64 if value >= 2**63 else value


def integers(buffer: Buffer, field: Field) -> Iterator[int]:
    """The numbers of a repeated integer field, packed or not."""
    if field.kind == VARINT:
        yield signed(field.value)
    elif field.kind == BYTES:
        position = field.start
        while position < field.stop:
            value, position = varint(buffer, position, field.stop)
            yield signed(value)
    else:
        raise WireError(field.start, f'field {field.number} should hold integers, its wire type is {field.kind}')


def floats(buffer: Buffer, field: Field, dtype: str) -> np.ndarray:
    """The numbers of a repeated float ('<f4') or double ('<f8') field, packed or not: a 1-D view."""
    width = np.dtype(dtype).itemsize
    size = field.stop - field.start
    if field.kind == BYTES:
        if size % width:
            raise WireError(field.start, f'field {field.number} has {size} bytes, no multiple of {width}')
        return np.ndarray(size // width, dtype, buffer, field.start)
    if _WIDTH.get(field.kind) != width:
        raise WireError(field.start, f'field {field.number} should hold {dtype}, its wire type is {field.kind}')
    return np.ndarray(field.repeats, dtype, buffer, field.start, (field.stride,))


def _end(position: int, length: int, stop: int, number: int) -> int:
    if length > stop - position:
        raise WireError(position, f'field {number} needs {length} bytes, {stop - position} are left')
    return position + length


def _run(buffer: Buffer, at: int, stop: int, key_width: int, stride: int) -> int:
    """How many records with the key at `at` follow one another; looked at in blocks, never twice."""
    count, block = 1, 1
    possible = (stop - at) // stride
    key = np.frombuffer(buffer, np.uint8, key_width, at)
    while count < possible:
        block = min(2 * block, possible - count)
        records = np.frombuffer(buffer, np.uint8, block * stride, at + count * stride).reshape(block, stride)
        same = (records[:, :key_width] == key).all(axis=1)
        if not same.all():
            return count + int(same.argmin())
        count += block
    return count


def key(number: int, kind: int) -> bytes:
    """The bytes before a field's value."""
    return encode_varint(number << 3 | kind)


def encode_varint(value: int) -> bytes:
    """A non-negative number as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited(number: int, size: int) -> bytes:
    """What stands before a BYTES field of that many bytes."""
    return key(number, BYTES) + encode_varint(size)
