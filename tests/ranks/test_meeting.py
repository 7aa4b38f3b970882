"""Ranks meet at rank 0's port, or say why they do not."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIB = Path(__file__).parent.parent.parent / 'lib'

PROGRAM = """
import sys
import ranks, ranks.channel
ranks.channel._TELL_SECONDS, ranks.channel._JOIN_SECONDS = {tell}, {join}
try:
    place = ranks.join('prog')
except OSError as error:
    sys.exit(f'{{type(error).__name__}}: {{error}}')
print(ranks.share(place.rank), flush=True)
ranks.leave()
"""


@pytest.fixture
def port():
    """One such that some above it are free."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1] - 1


@pytest.fixture
def start(port):
    """start(rank, count): a program that is one of several ranks."""
    running = []

    def begin(rank, count, tell=60, join=60, address='127.0.0.1', port=port):
        process = subprocess.Popen(
            [sys.executable, '-c', PROGRAM.format(tell=tell, join=join)],
            env={
                **os.environ, 'PYTHONPATH': str(LIB), 'RANK': str(rank), 'WORLD_SIZE': str(count),
                'MASTER_ADDR': address, 'MASTER_PORT': str(port),
            },
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def end(process):
    out, err = process.communicate(timeout=30)
    return process.returncode, out.strip(), err.strip()


def test_they_meet_whoever_comes_first(start):
    late = [start(2, 3), start(1, 3)]
    first = start(0, 3)
    assert [end(process) for process in (first, *late)] == [(0, '[0, 1, 2]', '')] * 3


def test_ports_that_others_have_are_passed_over(start, port):
    with contextlib.ExitStack() as others:
        others.enter_context(socket.create_server(('127.0.0.1', port + 1)))
        assert [end(process) for process in (start(0, 2), start(1, 2))] == [(0, '[0, 1]', '')] * 2


def test_where_no_port_is_free_rank_0_says_so(start, port):
    with contextlib.ExitStack() as others:
        for above in range(1, 9):
            with contextlib.suppress(OSError):  # taken by another program already
                others.enter_context(socket.create_server(('127.0.0.1', port + above)))
        status, _, said = end(start(0, 2))
    assert status == 1 and f'rank 0 cannot listen at 127.0.0.1, ports {port + 1} to {port + 8}' in said


def test_what_others_send_to_the_port_is_no_rank(start, port):
    first = start(0, 2, tell=0.1)
    first.stderr.readline()  # it listens
    for noise in (b'', b'GET / HTTP/1.1\r\n\r\n', b'R' + b'\0' * 7 + b'\x02[]', b'R' + b'\xff' * 8):
        with socket.create_connection(('127.0.0.1', port + 1)) as connection:
            connection.sendall(noise)
    assert [end(process)[:2] for process in (first, start(1, 2))] == [(0, '[0, 1]')] * 2


def test_ranks_that_differ_about_their_number_say_so(start):
    first = start(0, 2)
    status, _, said = end(start(1, 3))
    assert status == 1 and 'rank 1 on' in said and 'is not let in by rank 0' in said
    assert said.endswith('WORLD_SIZE is 2 there')
    assert end(start(1, 2))[:2] == end(first)[:2] == (0, '[0, 1]')


def test_a_rank_that_is_there_twice_says_so(start):
    first, twins = start(0, 3), [start(1, 3), start(1, 3)]
    while not any(each.poll() for each in twins):
        time.sleep(0.05)
    late, early = sorted(twins, key=lambda each: each.poll() is None)
    status, _, said = end(late)
    assert status == 1 and 'there is a rank 1 already, on' in said
    third = start(2, 3)
    assert [end(process)[:2] for process in (first, early, third)] == [(0, '[0, 1, 2]')] * 3


def test_jobs_whose_ports_overlap_do_not_meet(start, port):
    first = start(0, 2, port=port)
    status, _, said = end(start(1, 2, join=3, port=port - 1))
    assert status == 1 and 'was not to be reached for 3 s' in said
    assert [end(each)[:2] for each in (first, start(1, 2, port=port))] == [(0, '[0, 1]')] * 2


def test_who_waits_says_for_whom_and_gives_up(start):
    status, _, said = end(start(0, 3, tell=0.5, join=3))
    assert status == 1 and 'still waits for ranks 1, 2' in said
    assert 'rank 0 waited 3 s for ranks 1, 2: were they started?' in said
    status, _, said = end(start(1, 3, tell=0.5, join=3))
    assert status == 1 and said.count('rank 1 on') == 2
    assert 'has not reached rank 0 yet, at 127.0.0.1, ports' in said and 'was not to be reached for 3 s' in said
