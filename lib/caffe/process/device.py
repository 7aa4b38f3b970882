"""Where the process computes: Caffe's mode and device (common.cpp), and its random numbers.

As in Caffe, the mode and the device belong to the process, not to a net. In CPU mode there is one memory; in GPU mode
the device has its own, and `SyncedArray` moves what is asked for. A simulated device keeps its 'device' copies apart
in CPU memory, so that a machine without a GPU can test that nothing is read stale and nothing is moved twice.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from caffe.process import precision

_CPU = torch.device('cpu')


class _Process:
    device: torch.device | None = None  # where GPU mode computes; None in CPU mode
    gpu_index = 0
    simulated = False
    seed: int | None = None
    generators: ClassVar[dict[str, torch.Generator]] = {}
    copies_to_host = 0
    copies_to_device = 0


def set_mode_cpu() -> None:
    """Computes on the CPU from now on."""
    _Process.device = None


def set_mode_gpu() -> None:
    """Computes on the GPU that `set_device` chose (0 unless told otherwise).

    Raises RuntimeError where PyTorch sees no CUDA GPU.
    """
    if _Process.simulated:
        _Process.device = _CPU
        return
    if not torch.cuda.is_available():
        raise RuntimeError(
            'GPU mode was asked for, but PyTorch sees no CUDA GPU '
            f'(torch {torch.__version__}, built for CUDA {torch.version.cuda}). '
            'To compute on the CPU: caffe.set_mode_cpu()'
        )
    if _Process.gpu_index >= torch.cuda.device_count():
        raise RuntimeError(
            f'GPU {_Process.gpu_index} was asked for; this machine has {torch.cuda.device_count()} (numbered from 0).'
        )
    precision.apply_to_gpu()
    _Process.device = torch.device('cuda', _Process.gpu_index)


def set_device(gpu_id: int) -> None:
    """Chooses the GPU, numbered from 0. Takes effect at once in GPU mode, otherwise when GPU mode is set."""
    if gpu_id < 0:
        raise ValueError(f'GPU ids are numbered from 0, got {gpu_id}')
    _Process.gpu_index = int(gpu_id)
    if _Process.device is not None:
        set_mode_gpu()


def simulate_gpu(on: bool = True) -> None:
    """Lets GPU mode run on a simulated device: separate 'device' copies in CPU memory. For tests."""
    _Process.simulated = on
    _Process.device = None
    _Process.copies_to_host = _Process.copies_to_device = 0


def transfers() -> tuple[int, int]:
    """How many arrays were copied (device to host, host to device) since the process began or `simulate_gpu`."""
    return _Process.copies_to_host, _Process.copies_to_device


def has_own_memory() -> bool:
    """Whether the device has a memory of its own, i.e. GPU mode."""
    return _Process.device is not None


def current() -> torch.device:
    """The torch device on which layers compute now."""
    return _CPU if _Process.device is None else _Process.device


def to_device(host: torch.Tensor) -> torch.Tensor:
    """A copy of a host tensor in the device's memory."""
    _Process.copies_to_device += 1
    if _Process.simulated:
        return host.clone()
    # From pinned memory: from any other the host would wait until the GPU has done all that came before.
    return host.pin_memory().to(_Process.device, non_blocking=True)


def to_host(device_tensor: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
    """A copy of a device tensor in host memory, in `out` where that has as many elements."""
    _Process.copies_to_host += 1
    if out is not None and out.numel() == device_tensor.numel():
        out.view(-1).copy_(device_tensor.reshape(-1))
        return out
    return device_tensor.clone() if device_tensor.device == _CPU else device_tensor.to(_CPU)


def set_random_seed(seed: int) -> None:
    """Seeds every random number the engine draws from now on: fillers, dropout masks, DummyData."""
    _Process.seed = int(seed) & 0xFFFFFFFFFFFFFFFF
    _Process.generators.clear()


def generator() -> torch.Generator:
    """The random generator of the device on which layers compute now."""
    return _generator_on(current())


def host_generator() -> torch.Generator:
    """The random generator of the CPU: parameters are filled there, so that a seed gives the same net on any device."""
    return _generator_on(_CPU)


def _generator_on(device: torch.device) -> torch.Generator:
    key = str(device)
    if key not in _Process.generators:
        made = torch.Generator(device=device)
        if _Process.seed is None:
            made.seed()
        else:
            made.manual_seed(_Process.seed)
        _Process.generators[key] = made
    return _Process.generators[key]
