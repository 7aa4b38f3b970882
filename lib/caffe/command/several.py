"""`caffe train` by several ranks: each has a process, a device and a mini-batch; the update is that of the mean."""

from __future__ import annotations

import os
import sys

import caffe
import ranks
from caffe.process.exchange import NCCL
from caffe.solver import Solver
from ranks.devices import devices_of
from ranks.launcher import end_with_launcher, launch


def device_of_this_rank(gpu: str) -> str:
    """The device that --gpu means for this process. Where it names several, starts a process for each and exits."""
    if not gpu:
        return gpu
    devices = devices_of(gpu)
    if len(devices) == 1:
        return devices[0]
    if 'RANK' not in os.environ:
        command = [sys.executable, '-m', 'caffe', *sys.argv[1:]]
        sys.exit(launch(command, len(devices), 'caffe train'))
    end_with_launcher()
    place = ranks.join('caffe train')
    if place.local_count != len(devices):
        raise ValueError(f'--gpu {gpu} names {len(devices)} devices, and {place.local_count} ranks run on this machine')
    caffe.set_solver_count(place.count)
    caffe.set_solver_rank(place.rank)
    caffe.set_multiprocess(True)
    return devices[place.local_rank]


def exchange(solver: Solver) -> None:
    """Has the solvers of all ranks train together."""
    if ranks.count() == 1:
        return
    nccl = NCCL(solver, ranks.from_root(NCCL.new_uid() if ranks.is_root() else None))
    nccl.bcast()
    ranks.expect_answers()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
