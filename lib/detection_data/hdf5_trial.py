"""Whether an HDF5 file can be read at all, tried where a crash is caught.

The HDF5 library follows addresses and sizes as a file states them: on a damaged one it may end the process (SIGSEGV)
or never return. So another process reads it first, with little time and memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

PATIENCE = 120.0  # seconds, for a machine that does other things: processor time is what is limited

# What the other process does: read all that HDF5 has to interpret. The first data set, large and mapped, is only found.
_TRIAL = """
import os, signal, sys
import h5py
path, *names = sys.argv[1:]
size = os.path.getsize(path)
try:
    import resource
    signal.setitimer(signal.ITIMER_PROF, 0.4 + size / 50e6)
    with open('/proc/self/statm') as f:
        most = int(f.read().split()[0]) * resource.getpagesize() + 200_000_000 + size
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
except (ImportError, AttributeError, OSError, ValueError):
    pass  # not on every system
try:
    with h5py.File(path, 'r') as f:
        dict(f.attrs)
        if names:
            f[names[0]].id.get_offset(), f[names[0]].shape, f[names[0]].dtype
        else:
            f.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            names.insert(0, '')
        for name in names[1:]:
            f[name][()]
except MemoryError:
    sys.exit('it states sizes that do not fit into memory')
except Exception as e:
    sys.exit(str(e).splitlines()[0] if str(e) else type(e).__name__)
"""

_whole: set[tuple] = set()


def problem_of_hdf5(path: str, names: Sequence[str]) -> str | None:
    """What is wrong with an HDF5 file, None if attributes and data sets can be read.

    path: of the file. names: of the data sets; the first is only located, not read; without any, all are read. A file
    that was whole is not tried again in this process while its size and time stay.
    """
    status = os.stat(path)
    key = (os.path.abspath(path), status.st_ino, status.st_size, status.st_mtime_ns, *names)
    if key in _whole:
        return None
    command = [sys.executable, '-c', _TRIAL, path, *names]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace', timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return f'HDF5 did not finish reading it in {PATIENCE:g} s'
    if done.returncode == 0:
        _whole.add(key)
        return None
    if done.returncode > 0:
        return (done.stderr.strip().splitlines() or ['it cannot be read'])[-1]
    if -done.returncode == getattr(signal, 'SIGPROF', None):
        return 'damaged: HDF5 never ends reading it'
    return f'damaged: HDF5 crashes on it, {signal.Signals(-done.returncode).name}'
