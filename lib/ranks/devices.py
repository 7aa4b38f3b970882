"""What --gpu says: 'cpu', '0', and for several ranks '0,1,2,3', 'all' or 'cpu:2'."""

from __future__ import annotations

import glob
import os

from ranks.place import Place

_MOST = 16  # processes on the CPU, where there are few processors


def devices_of(gpu: str) -> list[str]:
    """The devices that --gpu names, one for each rank on this machine: 'cpu' or the number of a GPU.

    Raises ValueError for what it does not mean.
    """
    word = gpu.lower()
    if word == 'cpu':
        return ['cpu']
    if word.startswith('cpu:') and _is_number(word[4:]) and int(word[4:]) > 0:
        count, most = int(word[4:]), max(_MOST, 4 * (os.cpu_count() or 1))
        if count > most:
            raise ValueError(f'--gpu {gpu}: so many processes for {os.cpu_count()} processors; {most} at most')
        return ['cpu'] * count
    if word == 'all':
        return all_gpus()
    numbers = word.split(',')
    if not all(map(_is_number, numbers)):
        raise ValueError(
            f"--gpu takes the number of a GPU, several as in 0,1,2, 'all', 'cpu', or cpu:2 for two processes on the "
            f'CPU; it was given {gpu!r}'
        )
    if len(set(map(int, numbers))) < len(numbers):
        raise ValueError(f'--gpu {gpu} names a GPU twice; each rank has one of its own')
    return numbers


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6


def all_gpus() -> list[str]:
    """The GPUs that this process may use, numbered from 0."""
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    found = glob.glob('/dev/nvidia[0-9]*') if visible is None else [name for name in visible.split(',') if name]
    if not found:
        raise ValueError('--gpu all: this machine has no GPU that can be seen')
    return [str(i) for i in range(len(found))]


def device_of_rank(gpu: str | None, place: Place) -> str | None:
    """What --gpu means for one rank; None if nothing was said and there is only one.

    Raises ValueError unless every rank of this machine has a device. The CPU serves them all.
    """
    if place.count == 1:
        return gpu
    if gpu is None:
        return str(place.local_rank)
    devices = devices_of(gpu)
    if devices == ['cpu']:
        return 'cpu'
    if len(devices) != place.local_count:
        raise ValueError(
            f'--gpu {gpu} names {len(devices)} devices, and {place.local_count} ranks run on this machine; leave --gpu '
            'out under torchrun: every rank takes the GPU of its LOCAL_RANK'
        )
    return devices[place.local_rank]
