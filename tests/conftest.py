"""What the tests of all parts share: a disk that can be full, and a user who may not do everything."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest


class Disk:
    """A small disk of its own, mounted at `path`."""

    def __init__(self, path: Path):
        self.path = path
        self._filler = path / '.filler'

    def fill(self) -> None:
        """Leaves not a byte free."""
        with open(self._filler, 'wb', buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def free(self) -> None:
        self._filler.unlink()

    def files(self) -> dict[str, bytes]:
        """What is on it, by name."""
        return {
            str(p.relative_to(self.path)): p.read_bytes()
            for p in sorted(self.path.rglob('*'))
            if p.is_file() and p != self._filler
        }


@pytest.fixture
def disk(tmp_path):
    """A disk of 512 KiB. Only root may mount one."""
    path = tmp_path / 'disk'
    path.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip('a small disk can only be mounted by root')
    yield Disk(path)
    subprocess.run(['umount', '-l', str(path)], check=True)


@pytest.fixture
def as_nobody(tmp_path):
    """`with as_nobody():` runs without root's rights, for root may do everything; for others it changes nothing."""

    @contextlib.contextmanager
    def call():
        user = os.geteuid()
        if user == 0:
            made = [p for p in tmp_path.parents if p.name.startswith(('pytest-', 'popen-'))]
            for folder in (tmp_path, *made):  # those that pytest made, for its user alone
                folder.chmod(0o755)
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(user)

    return call


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    """The test runs with so many of torch's threads, more than there are cores among them."""
    torch = pytest.importorskip('torch')
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
