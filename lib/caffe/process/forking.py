"""A forked child of a process that computes: torch's threads are not in it, and waiting for them would never end."""

from __future__ import annotations

import os

import torch


def use_one_thread_in_forked_children() -> None:
    """Has each child that is forked from now on compute in its one thread (os.fork, multiprocessing's 'fork').

    A child that wants threads is to be started by multiprocessing's 'spawn'.
    """
    if hasattr(os, 'register_at_fork'):  # not on Windows, which does not fork
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
