"""A file that is changed in memory first: it reads like the changed file, and is written back in one go."""

import io
import os

import numpy as np
import pytest

from whole_file import Overlay


def test_it_reads_and_writes_as_a_file_does(tmp_path):
    """The same random operations on an Overlay over a file, and on a copy of it in memory."""
    rng = np.random.default_rng(0)
    path = tmp_path / 'file'
    path.write_bytes(rng.bytes(1000))
    expected = io.BytesIO(path.read_bytes())
    with open(path, 'rb') as base:
        overlay = Overlay(base)
        for _ in range(300):
            offset, count = (int(n) for n in rng.integers(0, (1500, 200)))
            overlay.seek(offset)
            expected.seek(offset)
            if rng.random() < 0.3:
                data = rng.bytes(count)
                assert overlay.write(data) == expected.write(data)
            else:
                assert overlay.read(count) == expected.read(count)
            assert overlay.tell() == expected.tell()
        assert overlay.seek(-10, os.SEEK_END) == expected.seek(-10, os.SEEK_END)
        assert path.stat().st_size == 1000, 'the file itself is as it was'
        overlay.write_back(path)
    assert path.read_bytes() == expected.getvalue()


def test_what_was_never_written_is_zero_and_takes_no_memory():
    overlay = Overlay()
    overlay.seek(10**12)
    overlay.write(b'end')
    assert overlay.size == 10**12 + 3
    assert overlay.content(10**12 - 2, 10**12 + 3) == b'\0\0end'
    overlay.truncate(5)
    assert overlay.size == 5


def test_a_file_that_cannot_grow_is_left_as_it_was(disk):
    path = disk.path / 'file'
    path.write_bytes(b'earlier')
    disk.fill()
    with open(path, 'rb') as base:
        overlay = Overlay(base)
        overlay.write(b'LATER' * 10_000)
        with pytest.raises(OSError, match=r'49993 bytes are needed in .* What it held is unharmed') as error:
            overlay.write_back(path)
    assert error.value.filename == str(path)
    assert disk.files() == {'file': b'earlier'}
