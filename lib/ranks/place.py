"""Which of several processes this is, and where rank 0 is to be found, by torchrun's variables of the environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

_LAST_PORT = 65534


@dataclass(frozen=True)
class Place:
    """rank of count; local_rank of local_count on this machine. Rank 0 listens at address, port + 1 or a little above.

    job: what tells it from other jobs and from its own earlier starts. restarts: how often it was started anew.
    launched: by `launcher`, which says why a rank ended.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    address: str = '127.0.0.1'
    port: int = 0
    job: str = ''
    restarts: int = 0
    launched: bool = False
    host: str = field(default_factory=socket.gethostname)


def place_of_environment(environment: Mapping[str, str] = os.environ) -> Place:
    """The place that RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT say; of a process alone without them.

    Raises ValueError if they do not fit together.
    """
    if 'RANK' not in environment or 'WORLD_SIZE' not in environment:
        return Place()
    numbers = {}
    for name, default in (
        ('RANK', ''), ('WORLD_SIZE', ''), ('LOCAL_RANK', '0'), ('LOCAL_WORLD_SIZE', environment['WORLD_SIZE']),
        ('MASTER_PORT', '29500'), ('TORCHELASTIC_RESTART_COUNT', '0'),
    ):  # fmt: skip
        try:
            numbers[name] = int(environment.get(name, default))
        except ValueError:
            raise ValueError(f'{name} is {environment[name]!r}; expected a whole number') from None
    rank, count, port = (numbers[name] for name in ('RANK', 'WORLD_SIZE', 'MASTER_PORT'))
    if not 0 <= rank < count:
        raise ValueError(f'RANK is {rank}, WORLD_SIZE {count}: ranks are numbered from 0')
    if not 0 < port <= _LAST_PORT:
        raise ValueError(f'MASTER_PORT is {port}; expected 1 to {_LAST_PORT}: ranks listen at one above it')
    restarts = numbers['TORCHELASTIC_RESTART_COUNT']
    name = environment.get('RANKS_JOB') or environment.get('TORCHELASTIC_RUN_ID', '')
    address = environment.get('MASTER_ADDR', '127.0.0.1')
    return Place(
        rank=rank,
        count=count,
        local_rank=numbers['LOCAL_RANK'],
        local_count=numbers['LOCAL_WORLD_SIZE'],
        address='127.0.0.1' if address == 'localhost' else address,
        port=port,
        job=f'{name}/{count}/{restarts}',
        restarts=restarts,
        launched='RANKS_JOB' in environment,
    )
