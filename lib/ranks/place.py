"""Which of several processes this is, and where rank 0 is to be found, by torchrun's variables of the environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field


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
    try:
        rank, count, local_rank, port = (
            int(environment.get(name, default))
            for name, default in (('RANK', ''), ('WORLD_SIZE', ''), ('LOCAL_RANK', 0), ('MASTER_PORT', 29500))
        )
    except ValueError as error:
        raise ValueError(f'RANK, WORLD_SIZE, LOCAL_RANK and MASTER_PORT are whole numbers: {error}') from None
    if not 0 <= rank < count:
        raise ValueError(f'RANK is {rank}, WORLD_SIZE {count}: ranks are numbered from 0')
    restarts = int(environment.get('TORCHELASTIC_RESTART_COUNT', 0))
    name = environment.get('RANKS_JOB') or environment.get('TORCHELASTIC_RUN_ID', '')
    address = environment.get('MASTER_ADDR', '127.0.0.1')
    return Place(
        rank=rank,
        count=count,
        local_rank=local_rank,
        local_count=int(environment.get('LOCAL_WORLD_SIZE', count)),
        address='127.0.0.1' if address == 'localhost' else address,
        port=port,
        job=f'{name}/{count}/{restarts}',
        restarts=restarts,
        launched='RANKS_JOB' in environment,
    )
