"""Ranks: several processes that do one job, on one machine or on many. Knows neither Caffe nor detection.

place.py      which of them this process is, as torchrun or `launcher` says by the environment
launcher.py   starts them on this machine, and ends them all when one ends
channel.py    what they tell each other, by way of rank 0; whether they live and get on
message.py    what travels there: numbers, text and arrays
devices.py    what --gpu says: which devices, and how many ranks

A process that was started alone is rank 0 of 1, and all functions work: `gather(x)` is [x], `share(x)` too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ranks.channel import Channel
from ranks.place import Place, place_of_environment


class _Process:
    place = Place()
    channel: Channel | None = None


def join(prog: str) -> Place:
    """Meets the other ranks, if the environment says that there are any. Returns this one's place.

    prog: the program's name, for messages. Raises OSError where rank 0 is not to be reached.
    """
    if _Process.channel is None:
        _Process.place = place_of_environment()
        if _Process.place.count > 1:
            _Process.channel = Channel(_Process.place, prog)
    return _Process.place


def rank() -> int:
    """Which rank this is, from 0."""
    return _Process.place.rank


def count() -> int:
    """How many there are."""
    return _Process.place.count


def place() -> Place:
    """Where this rank is among the others."""
    return _Process.place


def is_root() -> bool:
    """Whether this is rank 0, the only one that writes, prints and draws."""
    return rank() == 0


def gather(value: Any) -> list | None:
    """The values of all ranks, in their order, at rank 0; None elsewhere. All ranks have to call it."""
    return [value] if _Process.channel is None else _Process.channel.gather(value)


def share(value: Any) -> list:
    """The values of all ranks, in their order, at every rank. All have to call it."""
    return [value] if _Process.channel is None else _Process.channel.share(value)


def from_root(value: Any) -> Any:
    """Rank 0's value, at every rank. All have to call it."""
    return value if _Process.channel is None else _Process.channel.from_root(value)


def mine(items: Sequence) -> Sequence:
    """This rank's share of `items`: neighbours stay together, and the shares in rank order are the list."""
    return items[len(items) * rank() // count() : len(items) * (rank() + 1) // count()]


def stamp() -> None:
    """Says that this rank gets on. From the first time on, one that does not for long ends the job."""
    if _Process.channel is not None:
        _Process.channel.stamp()


def expect_answers() -> None:
    """Has the job end when a rank is silent for long, from now on: stopped, or its machine gone. `stamp` does too."""
    if _Process.channel is not None:
        _Process.channel.expect_answers()


def rest() -> None:
    """Says that this rank has nothing to do for others, or something long, until it calls `stamp` again."""
    if _Process.channel is not None:
        _Process.channel.rest()


def leave() -> None:
    """Parts from the others, once all want to."""
    if _Process.channel is not None:
        _Process.channel.close()
        _Process.channel, _Process.place = None, Place()


def wait_for_word(error: Exception) -> None:
    """To be called before a rank says what is wrong with it: others may have said it, or know better, and end it.

    What is wrong at all ranks rank 0 says. Of a rank that is gone, Gloo says only that a connection is.
    """
    if count() > 1 and (not is_root() or 'gloo' in str(error)):
        time.sleep(3 if 'gloo' in str(error) else 1)


def give_up() -> None:
    """Ends the other ranks' processes, after this one has said why. Returns."""
    if _Process.channel is not None:
        _Process.channel.give_up()
