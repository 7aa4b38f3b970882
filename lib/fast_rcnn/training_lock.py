"""One process at a time writes certain files: two trainings would mix their snapshots and records, for example."""

from __future__ import annotations

import contextlib
import os
import socket

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Lock:
    """The file <prefix>.lock, locked for this process until `release`, or until the process ends in any way.

    Raises RuntimeError if another process holds it; `refusal` says then what that does, and what to do. A process may
    lock a prefix several times. Where the file system knows no locks, there is none.
    """

    def __init__(self, prefix: str, refusal: str):
        self._path, self._refusal = f'{prefix}.lock', refusal
        self._lock()
        while not self._is_there():  # its holder removed it between our opening and locking it
            self._stream.close()
            self._lock()
        with contextlib.suppress(OSError):  # on a full disk the next file says so; this only tells who holds it
            os.ftruncate(self._stream.fileno(), 0)
            os.write(self._stream.fileno(), f'process {os.getpid()} on {socket.gethostname()}'.encode())

    def _lock(self) -> None:
        self._stream = open(self._path, 'a+', encoding='utf-8')  # noqa: SIM115 - held until `release`
        try:
            if fcntl is not None:
                fcntl.lockf(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self._stream.seek(0)
            holder = self._stream.read().strip() or 'another process'
            self._stream.close()
            raise RuntimeError(f'{self._path}: {holder} {self._refusal}') from None
        except OSError:  # no locks on this file system
            pass

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._stream.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        self.release()

    def release(self) -> None:
        """Removes the file and gives up the lock."""
        if not self._stream.closed:
            with contextlib.suppress(OSError):
                os.remove(self._path)
            self._stream.close()


class TrainingLock(Lock):
    """That of a training, whose files begin with `prefix`."""

    def __init__(self, prefix: str):
        super().__init__(
            prefix,
            'trains here already, and the files of both would mix; wait for its end, or give this training an output '
            'folder of its own (--set EXP_DIR name) or another TRAIN.SNAPSHOT_INFIX',
        )


class ProposalsLock(Lock):
    """That of whoever computes the proposals file `path`, whose folder is made."""

    def __init__(self, path: str):
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        super().__init__(path, 'makes these proposals already; wait for its end: then they are there')
