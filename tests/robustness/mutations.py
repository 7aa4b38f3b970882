"""Damage as files meet it: bits flipped, bytes cut, numbers made huge, words swapped. The same for the same seed."""

from __future__ import annotations

import random
import re

HUGE = [
    b'-1', b'0', b'4294967295', b'4294967296', b'9223372036854775807', b'1e308', b'nan', b'inf', b'-inf', b'1e-45',
    b'99999999999999999999', b'0.0', b'2147483648', b'-2147483649', b'1e999', b'""', b'true', b'[]', b'{}', b'null',
]  # fmt: skip
_NUMBER = re.compile(rb'-?\d+(\.\d+)?')
_WORD = re.compile(rb'\w+')


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes, damaged in one to four ways."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if out:
            out = bytearray(rng.choice(WAYS)(out, rng))
    return bytes(out)


def flip(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 3, 20))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def drop(data: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.choice((1, 4, 8, 100)) :]


def repeat(data: bytearray, rng: random.Random) -> bytearray:
    at, count = rng.randrange(len(data)), rng.choice((1, 8, 64, 4096))
    return data[:at] + data[at : at + count] * rng.choice((2, 50)) + data[at:]


def fill(data: bytearray, rng: random.Random) -> bytearray:
    at, count = rng.randrange(len(data)), rng.choice((1, 2, 4, 8))
    data[at : at + count] = rng.choice((b'\0', b'\xff', b'\x7f', b'\x80')) * count
    return data


def huge_number(data: bytearray, rng: random.Random) -> bytearray:
    """One of the numbers of a text becomes another."""
    found = list(_NUMBER.finditer(data[: 2**16]))
    if not found:
        return fill(data, rng)
    at = rng.choice(found)
    return data[: at.start()] + rng.choice(HUGE) + data[at.end() :]


def swap_words(data: bytearray, rng: random.Random) -> bytearray:
    found = list(_WORD.finditer(data[: 2**16]))
    if len(found) < 2:
        return flip(data, rng)
    a, b = sorted(rng.sample(found, 2), key=lambda m: m.start())
    return data[: a.start()] + b[0] + data[a.end() : b.start()] + a[0] + data[b.end() :]


def nest(data: bytearray, rng: random.Random) -> bytearray:
    """Brackets within brackets, thousands deep."""
    at = rng.randrange(len(data))
    return data[:at] + rng.choice((b'[', b'{', b'(', b'{"a":', b'a {', b'<a>')) * rng.choice((50, 20000)) + data[at:]


WAYS = (flip, flip, cut, drop, repeat, fill, huge_number, huge_number, swap_words, nest)
