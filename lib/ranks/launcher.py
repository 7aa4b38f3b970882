"""Starts the ranks of a job on this machine, each a process, and ends with them: none is left when one is gone."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time

from ranks.channel import SILENT_STATUS

_LIFELINE = 'RANKS_LIFELINE'
_GRACE = 5.0  # seconds in which ranks end by themselves once one has


def launch(command: list[str], count: int, prog: str) -> int:
    """Runs `command` as `count` ranks. Returns the exit status of the job.

    Signals that ask to stop go to all of them. If this process is killed, they end too. prog: for the message.
    """
    lifeline, held = os.pipe()  # held: open as long as this process lives
    environment = {
        'OMP_NUM_THREADS': str(max(1, len(_processors()) // count)),
        **os.environ,
        'WORLD_SIZE': str(count),
        'LOCAL_WORLD_SIZE': str(count),
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(_free_port()),
        'RANKS_JOB': secrets.token_hex(8),
        _LIFELINE: str(lifeline),
    }
    running: list[subprocess.Popen] = []
    before = {}
    asked: list[int] = []  # signals that were passed on
    try:
        for rank in range(count):
            running.append(
                subprocess.Popen(
                    command,
                    env={**environment, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
                    pass_fds=[lifeline],
                    start_new_session=True,  # a terminal's Ctrl-C comes by way of this process, once
                )
            )
        os.close(lifeline)

        def pass_on(number, frame):
            asked.append(number)
            for process in running:
                if process.poll() is None:
                    process.send_signal(number)

        if threading.current_thread() is threading.main_thread():
            asking = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            before = {number: signal.signal(number, pass_on) for number in asking}
        return _wait(running, prog, asked)
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
        os.close(held)
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_launcher() -> None:
    """In a rank: has this process end when its launcher does, however that ends."""
    line = os.environ.pop(_LIFELINE, None)
    if line is None:
        return
    os.set_inheritable(int(line), False)

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(int(line), 1)
        os._exit(SILENT_STATUS)

    threading.Thread(target=wait, name='ranks-lifeline', daemon=True).start()


def _wait(running: list[subprocess.Popen], prog: str, asked: list[int]) -> int:
    while True:
        statuses = [process.poll() for process in running]
        if any(statuses):
            break
        if None not in statuses:
            return 0
        time.sleep(0.05)
    until = time.monotonic() + _GRACE
    while None in (process.poll() for process in running) and time.monotonic() < until:
        time.sleep(0.05)
    statuses = [process.poll() for process in running]
    said = [status for status in statuses if status and status > 0 and status != SILENT_STATUS]
    if said:
        return said[0]
    if asked and any(-number in statuses for number in asked):  # before a rank could do anything else about it
        print(f'{prog}: interrupted', file=sys.stderr)
        return 130
    rank, status = next(((r, s) for r, s in enumerate(statuses) if s and s < 0), (0, SILENT_STATUS))
    cause = f'was killed by signal {-status} ({_signal_name(-status)})' if status < 0 else 'ended'
    if status == -signal.SIGKILL:
        cause += ', as the system does when memory runs out'
    host = socket.gethostname()
    print(f'{prog}: error: rank {rank} on {host} {cause}; the job of {len(running)} ranks ends', file=sys.stderr)
    return 1


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return 'unknown'


def _processors() -> list[int]:
    if hasattr(os, 'sched_getaffinity'):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _free_port() -> int:
    """A port such that the next one is free."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1] - 1
