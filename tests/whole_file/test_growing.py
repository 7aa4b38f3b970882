"""A file that grows: each addition whole or not at all."""

import pytest

from whole_file import GrowingFile


def test_what_is_added_comes_after_what_was_there(tmp_path):
    (tmp_path / 'file').write_bytes(b'old ')
    file = GrowingFile(tmp_path / 'file')
    file.add(b'new ')
    file.add(b'')
    file.add(b'newer')
    assert (tmp_path / 'file').read_bytes() == b'old new newer', 'it is there before the file is closed'
    file.close()


def test_on_a_full_disk_nothing_is_added_and_later_it_goes_on(disk):
    file = GrowingFile(disk.path / 'file')
    file.add(b'first ')
    disk.fill()
    with pytest.raises(OSError, match=r'9000 bytes are needed in .* What it held is unharmed') as error:
        file.add(b'123456789' * 1000)  # the page that is there already takes a part of it
    assert error.value.filename == str(disk.path / 'file')
    assert disk.files() == {'file': b'first '}
    disk.free()
    file.add(b'second')
    file.close()
    assert disk.files() == {'file': b'first second'}
