"""Worker processes: whose signals end them."""

import os
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest

from roi_data_layer.worker_pool import WorkerPool


@pytest.mark.skipif(not hasattr(signal, 'sigwaitinfo'), reason='who sends a signal cannot be told here')
def test_sigterm_of_somebody_else_does_not_end_a_worker():
    with WorkerPool(1) as pool:
        worker = pool.submit(os.getpid).result()
        subprocess.run([sys.executable, '-c', f'import os, signal; os.kill({worker}, signal.SIGTERM)'], check=True)
        assert [pool.submit(os.getpid).result() for _ in range(20)] == [worker] * 20


def test_a_pool_that_loses_a_worker_says_so_and_ends_the_others():
    pool = WorkerPool(3)
    workers = {pool.submit(os.getpid).result() for _ in range(30)}
    os.kill(next(iter(workers)), signal.SIGKILL)
    with pytest.raises(BrokenProcessPool):
        for _ in range(1000):
            pool.submit(os.getpid).result(timeout=60)
    pool.shutdown()  # returns when they have ended
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
