"""A file appears whole or not at all, and the error says which, where, and how much room is needed."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys

import pytest

import whole_file


@pytest.fixture
def small_files():
    """No file of this process may grow beyond 64 KiB."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


def test_bytes_pieces_text_and_what_others_write(tmp_path):
    path = tmp_path / 'file'
    whole_file.write(path, b'abc')
    assert path.read_bytes() == b'abc'
    whole_file.write(path, [b'a', memoryview(b'bc'), bytearray(b'd')])
    assert path.read_bytes() == b'abcd'
    whole_file.write_text(path, 'schön')
    assert path.read_text(encoding='utf-8') == 'schön'
    with whole_file.in_memory(path) as file:
        file.write(b'in memory')
    assert path.read_bytes() == b'in memory'
    with whole_file.beside(path) as made, open(made, 'w') as file:
        file.write('beside')
    assert path.read_text() == 'beside'
    assert os.listdir(tmp_path) == ['file']


def test_a_text_with_a_file_name_that_is_not_utf_8(tmp_path):
    whole_file.write_text(tmp_path / 'a.txt', 'caf\udce9.jpg')
    assert (tmp_path / 'a.txt').read_text(encoding='utf-8') == 'caf\\udce9.jpg'


def test_a_folder_appears_whole(tmp_path):
    with whole_file.beside(tmp_path / 'folder') as made:
        os.makedirs(os.path.join(made, 'inner'))
        assert not (tmp_path / 'folder').exists()
    assert os.listdir(tmp_path) == ['folder'] and os.listdir(tmp_path / 'folder') == ['inner']


def test_the_bytes_needed_are_those_of_the_whole_file(tmp_path, small_files):
    pieces = [b'x' * 50_000] * 10
    expected = (
        rf'; 500000 bytes are needed in {tmp_path}, where \d+ bytes of disk space are free\. No file was left behind'
    )
    with pytest.raises(OSError, match=expected) as error:
        whole_file.write(tmp_path / 'file', iter(pieces))
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(tmp_path / 'file'))
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_the_earlier_file(disk):
    whole_file.write(disk.path / 'file', b'earlier')
    disk.fill()
    with pytest.raises(OSError, match=r'No space left on device; 7000 bytes are needed in .*, where 0 bytes') as error:
        whole_file.write(disk.path / 'file', b'later..' * 1000)
    assert 'The file that was there is unharmed. Make room there, or write to another disk' in str(error.value)
    assert error.value.filename == str(disk.path / 'file')
    with (
        pytest.raises(OSError, match=r'more room is needed in .*What was there is unharmed') as error,
        whole_file.beside(disk.path / 'file') as made,
        open(made, 'wb', buffering=0) as file,
    ):
        file.write(b'later')
    assert error.value.filename == str(disk.path / 'file')
    assert disk.files() == {'file': b'earlier'}


@pytest.mark.parametrize('mistake', [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_leaves_nothing(mistake, tmp_path):
    def pieces():
        yield b'half'
        raise mistake

    path = tmp_path / 'file'
    with pytest.raises(mistake):
        whole_file.write(path, pieces())
    with pytest.raises(mistake), whole_file.in_memory(path) as file:
        file.write(b'half')
        raise mistake
    with pytest.raises(mistake), whole_file.beside(path) as made:
        os.mkdir(made)
        raise mistake
    assert os.listdir(tmp_path) == []


def test_writing_goes_through_links_and_not_over_what_is_no_file(tmp_path):
    (tmp_path / 'real').write_bytes(b'old')
    (tmp_path / 'link').symlink_to('real')
    whole_file.write(tmp_path / 'link', b'new')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'real').read_bytes() == b'new'
    with pytest.raises(IsADirectoryError, match='not a plain file'):
        whole_file.write(tmp_path, b'new')
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(OSError, match='not a plain file'):
        whole_file.write(tmp_path / 'pipe', b'new')
    assert stat.S_ISFIFO(os.stat(tmp_path / 'pipe').st_mode)


def test_a_folder_that_is_not_there_and_a_name_that_is_too_long(tmp_path):
    with pytest.raises(FileNotFoundError, match=f'] There is no folder {tmp_path}/no: make it first') as error:
        whole_file.write(tmp_path / 'no' / 'file', b'new')
    assert 'bytes are needed' not in str(error.value)
    whole_file.write(tmp_path / ('n' * 255), b'as long as a name can be')
    with pytest.raises(OSError, match='The name has 256 bytes, and most disks take 255: shorten it'):
        whole_file.write(tmp_path / ('n' * 256), b'new')
    assert os.listdir(tmp_path) == ['n' * 255]


def test_a_folder_that_this_user_may_not_write_in(tmp_path, as_nobody):
    (tmp_path / 'theirs').mkdir()
    with as_nobody(), pytest.raises(PermissionError, match=r'3 bytes are needed in .*This user may not write there'):
        whole_file.write(tmp_path / 'theirs' / 'file', b'new')
    assert list((tmp_path / 'theirs').iterdir()) == []


READER = """
import sys
while True:
    with open(sys.argv[1], 'rb') as file:
        content = file.read()
    assert content in (b'a' * 100_000, b'b' * 100_000), len(content)
    print('whole', flush=True)
"""


def test_who_reads_meanwhile_sees_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / 'file'
    whole_file.write(path, b'a' * 100_000)
    reader = subprocess.Popen([sys.executable, '-c', READER, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        for k in range(200):
            whole_file.write(path, b'ab'[k % 2 : k % 2 + 1] * 100_000)
            if k % 10 == 0:
                assert reader.stdout.readline() == b'whole\n', reader.stderr.read().decode()
    finally:
        reader.kill()
        reader.communicate()


def test_whether_a_file_can_be_written_is_known_before(tmp_path):
    whole_file.check_place(tmp_path / 'a.txt')
    whole_file.check_place(tmp_path / 'x' / 'y' / 'a.txt', makes_folders=True)
    with pytest.raises(FileNotFoundError, match=r'There is no folder .*x: make it first'):
        whole_file.check_place(tmp_path / 'x' / 'a.txt')
    assert list(tmp_path.iterdir()) == []
    (tmp_path / 'x').write_text('in the way')
    for path in ('x/a.txt', 'x/y/a.txt'):
        with pytest.raises(NotADirectoryError, match=rf'{tmp_path}/x is a file, where a folder is needed'):
            whole_file.check_place(tmp_path / path, makes_folders=True)
    with pytest.raises(IsADirectoryError):
        whole_file.check_place(tmp_path)
    assert (tmp_path / 'x').read_text() == 'in the way'
    with pytest.raises(OSError, match='no-such'):
        whole_file.check_place('/proc/no-such/a.txt', makes_folders=True)
