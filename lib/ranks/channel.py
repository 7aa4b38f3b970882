"""What ranks tell each other by way of rank 0, over TCP; and how they notice that one of them is gone.

A rank that dies is noticed by its connection, one whose machine or process stands still by its silence, one that
lives but gets on no more by the others' waiting for it (`stamp`). Then all end at once, by `os._exit`: a rank may be
waiting in a library for one that never comes. One message says which rank, on which machine, and what is known of why.
"""

from __future__ import annotations

import os
import queue
import socket
import struct
import sys
import threading
import time
from typing import Any

from ranks.message import pack, unpack
from ranks.place import Place

_FRAME = struct.Struct('>cQ')  # kind, length of what follows
_HELLO, _MESSAGE, _BEAT, _FAILED, _BYE = b'R', b'M', b'H', b'F', b'B'
_LONGEST_HELLO = 2**16
_PORTS = 8  # above MASTER_PORT, which is torchrun's own
_JOIN_SECONDS = 600.0
_TELL_SECONDS = 30.0  # of waiting at the start, after which it is said once
_BEAT_SECONDS = 1.0
_SILENCE = 15.0  # seconds without a beat, once work has begun; before it a rank may be reading a large file
_FIRST_SILENCE = 600.0
_STALL = 20.0  # seconds without a stamp, or three times the longest that there was between two

SILENT_STATUS = 71
"""The exit status of a rank that ends because of another, and has not said so."""


class Channel:
    """The connections of one rank. Raises OSError where rank 0 is not to be reached."""

    def __init__(self, place: Place, prog: str):
        self._place, self._prog = place, prog
        # Ports of jobs side by side may overlap: what has another MASTER_PORT is another job
        self._job = f'{place.port} {place.job}'
        self._closing = threading.Event()
        self._failing = threading.Lock()
        self._so_far = 0  # stamps
        self._stamps = 0  # the same, or 0 while this rank rests
        self._answering = False
        self._peers = self._listen() if place.rank == 0 else {0: self._connect()}
        for peer in self._peers.values():
            threading.Thread(target=self._read, args=(peer,), name='ranks-read', daemon=True).start()
        threading.Thread(target=self._watch, name='ranks-watch', daemon=True).start()

    # -- what is told

    def gather(self, value: Any) -> list | None:
        """All values at rank 0."""
        if self._place.rank:
            self._peers[0].send(_MESSAGE, pack(value))
            return None
        return [value] + [unpack(self._peers[r].received.get()) for r in range(1, self._place.count)]

    def from_root(self, value: Any) -> Any:
        """Rank 0's value."""
        if self._place.rank:
            return unpack(self._peers[0].received.get())
        data = pack(value)
        for peer in self._peers.values():
            peer.send(_MESSAGE, data)
        return value

    def share(self, value: Any) -> list:
        """All values at every rank."""
        return self.from_root(self.gather(value))

    def stamp(self) -> None:
        """Says that this rank gets on."""
        self._so_far += 1
        self._stamps = self._so_far

    def expect_answers(self) -> None:
        """Says that no rank is busy with reading large files any more."""
        self._answering = True

    def rest(self) -> None:
        """Says that nobody waits for this rank."""
        self._stamps = 0

    def close(self) -> None:
        """Parts from the others once all have called it."""
        self.share(None)
        self._closing.set()
        for peer in self._peers.values():
            peer.send(_BYE)
        for peer in self._peers.values():
            peer.gone.wait(10)
            peer.connection.close()

    def give_up(self) -> None:
        """Ends the other ranks; this one has said why and ends by itself."""
        self._closing.set()
        for peer in self._peers.values():
            peer.send(_FAILED)

    # -- meeting

    def _listen(self) -> dict[int, _Peer]:
        server = self._server()
        server.settimeout(1)
        began, told = time.monotonic(), False
        peers: dict[int, _Peer] = {}
        with server:
            while len(peers) < self._place.count - 1:
                waited = time.monotonic() - began
                missing = ', '.join(str(r) for r in range(1, self._place.count) if r not in peers)
                if waited > _JOIN_SECONDS:
                    raise TimeoutError(f'rank 0 waited {_JOIN_SECONDS:.0f} s for ranks {missing}: were they started?')
                if waited > _TELL_SECONDS and not told:
                    told = self._tell(f'rank 0 on {self._place.host} still waits for ranks {missing}')
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                connection.settimeout(10)
                try:
                    kind, data = _receive(connection, _LONGEST_HELLO)
                    hello = unpack(data) if kind == _HELLO else {}
                    refused = self._refused(hello, peers)
                    if refused is not None:
                        connection.sendall(_frame(_HELLO, pack({'job': self._job, 'refused': refused})))
                        connection.close()
                        continue
                except (OSError, ValueError, AttributeError):
                    connection.close()
                    continue
                connection.settimeout(None)
                peers[hello['rank']] = peer = _Peer(connection, hello['rank'], hello['host'])
                peer.send(_HELLO, pack({'job': self._job, 'host': self._place.host}))
        return dict(sorted(peers.items()))

    def _refused(self, hello: dict, peers: dict[int, _Peer]) -> str | None:
        """Why one that says `hello` does not belong to this job; '' if it is another job's; None if it does."""
        rank = hello.get('rank')
        if hello.get('job') == self._job and isinstance(rank, int) and 0 < rank < self._place.count:
            return f'there is a rank {rank} already, on {peers[rank].host}' if rank in peers else None
        mine = self._job.split('/')
        theirs = str(hello.get('job')).split('/')
        if len(mine) == len(theirs) == 3 and mine[0] == theirs[0] and mine[1] != theirs[1]:
            return f'WORLD_SIZE is {mine[1]} there'
        return ''

    def _tell(self, what: str) -> bool:
        print(f'{self._prog}: {what}', file=sys.__stderr__, flush=True)
        return True

    @property
    def _ports(self) -> range:
        return range(self._place.port + 1, min(self._place.port + _PORTS, 65535) + 1)

    def _server(self) -> socket.socket:
        family = socket.AF_INET6 if ':' in self._place.address else socket.AF_INET
        error: OSError | None = None
        for port in self._ports:
            try:
                return socket.create_server((self._place.address, port), family=family)
            except OSError as found:
                error = found
        raise OSError(
            f'rank 0 cannot listen at {self._place.address}, ports {self._ports[0]} to {self._ports[-1]} ({error}); '
            'MASTER_ADDR and MASTER_PORT say where'
        )

    def _connect(self) -> _Peer:
        me = f'rank {self._place.rank} on {self._place.host}'
        where = f'{self._place.address}, ports {self._ports[0]} to {self._ports[-1]} (MASTER_ADDR, MASTER_PORT)'
        began, told = time.monotonic(), False
        while (waited := time.monotonic() - began) < _JOIN_SECONDS:
            for port in self._ports:
                try:
                    connection = socket.create_connection((self._place.address, port), timeout=5)
                except OSError:
                    continue
                peer = _Peer(connection, 0, self._place.address)
                hello = {'job': self._job, 'rank': self._place.rank, 'host': self._place.host}
                try:
                    peer.send(_HELLO, pack(hello))
                    kind, data = _receive(connection, _LONGEST_HELLO)
                    answer = unpack(data) if kind == _HELLO else {}
                except (OSError, ValueError):
                    answer = {}
                if answer.get('refused'):
                    connection.close()
                    raise ConnectionError(f'{me} is not let in by rank 0 at {where}: {answer["refused"]}')
                if answer.get('job') == self._job and 'host' in answer:
                    connection.settimeout(None)
                    peer.host = answer['host']
                    return peer
                connection.close()
            if waited > _TELL_SECONDS and not told:
                told = self._tell(f'{me} has not reached rank 0 yet, at {where}')
            time.sleep(0.1)
        raise TimeoutError(f'{me}: rank 0 was not to be reached for {_JOIN_SECONDS:.0f} s at {where}')

    # -- watching

    def _read(self, peer: _Peer) -> None:
        while True:
            try:
                kind, data = _receive(peer.connection)
            except (OSError, ValueError):
                kind = None
            peer.heard = time.monotonic()
            if kind == _MESSAGE:
                peer.received.put(data)
            elif kind == _BEAT:
                peer.note(int.from_bytes(data, 'big'))
            elif kind == _FAILED:
                self._end(None)
            else:
                peer.gone.set()
                if kind != _BYE and not self._closing.is_set():
                    self._end(f'{peer.name} ended without a word: killed, or out of memory?', known_to_launcher=True)
                return

    def _watch(self) -> None:
        me = _Peer(None, self._place.rank, self._place.host)
        before = time.monotonic()
        while not self._closing.wait(_BEAT_SECONDS):
            now = time.monotonic()
            stood_still, before = now - before > 5 * _BEAT_SECONDS, now
            if stood_still:  # this process did: the others' silence tells nothing
                for peer in (me, *self._peers.values()):
                    peer.heard = peer.got_on = now
            me.note(self._stamps)
            for peer in self._peers.values():
                peer.send(_BEAT, self._stamps.to_bytes(8, 'big'))
                silence = now - peer.heard
                if (
                    silence > (_SILENCE if self._stamps or self._answering else _FIRST_SILENCE)
                    and not peer.gone.is_set()
                ):
                    self._end(f'{peer.name} has not answered for {silence:.0f} s: stopped, or its machine is')
            if self._place.rank == 0:
                self._look_for_stall([me, *self._peers.values()], now)

    def _look_for_stall(self, all_ranks: list[_Peer], now: float) -> None:
        at_work = [peer for peer in all_ranks if peer.stamps]
        if not all(peer.started for peer in all_ranks) or not at_work:
            return
        limit = max(_STALL, 3 * max(peer.longest for peer in all_ranks))
        if min(peer.longest for peer in all_ranks) == 0:  # nobody knows yet how long a step takes
            limit = _FIRST_SILENCE
        if all(now - peer.got_on > limit for peer in at_work):
            last = min(at_work, key=lambda peer: peer.stamps)
            self._end(f'{last.name} gets on no more: the others have waited {now - last.got_on:.0f} s for it')

    def _end(self, what: str | None, known_to_launcher: bool = False) -> None:
        """Ends all processes of the job. what: the message, None if it has been said."""
        if self._closing.is_set() or not self._failing.acquire(blocking=False):
            return
        # One rank speaks: the root, and where it is the root that is gone, the next one.
        speaks = what is not None and self._place.rank <= 1 and not (known_to_launcher and self._place.launched)
        if speaks:
            text = f'{self._prog}: error: {what}; the job of {self._place.count} ranks ends'
            print(text, file=sys.__stderr__, flush=True)
        for peer in self._peers.values():
            peer.send(_FAILED)
        os._exit(1 if speaks else SILENT_STATUS)


class _Peer:
    """Another rank, as this one knows it. stamps: how often it said that it gets on; got_on: when it last did;
    longest: seconds between two times."""

    def __init__(self, connection: Any, rank: int, host: str):  # a socket; None for the rank itself
        self.connection, self.rank, self.host = connection, rank, host
        self.received: queue.Queue[bytes] = queue.Queue()
        self.gone = threading.Event()
        self.heard = self.got_on = time.monotonic()
        self.stamps, self.longest, self.started = 0, 0.0, False
        self._sending = threading.Lock()

    @property
    def name(self) -> str:
        return f'rank {self.rank} on {self.host}'

    def note(self, stamps: int) -> None:
        if stamps == self.stamps:
            return
        now = time.monotonic()
        self.started = True
        if self.stamps and stamps:
            self.longest = max(self.longest, now - self.got_on)
        self.stamps, self.got_on = stamps, now

    def send(self, kind: bytes, data: bytes = b'') -> None:
        """Sends, or does nothing if the other end is gone: its reader notices."""
        try:
            with self._sending:
                self.connection.sendall(_frame(kind, data))
        except OSError:
            pass


def _frame(kind: bytes, data: bytes) -> bytes:
    return _FRAME.pack(kind, len(data)) + data


def _receive(connection: socket.socket, longest: int | None = None) -> tuple[bytes, bytes]:
    """A frame: its kind, and what it holds. Raises OSError when the other end is gone, ValueError for what is none."""
    kind, length = _FRAME.unpack(_exactly(connection, _FRAME.size))
    if kind not in (_HELLO, _MESSAGE, _BEAT, _FAILED, _BYE):
        raise ValueError(f'no message of a rank begins with {kind!r}')
    if longest is not None and length > longest:
        raise ValueError(f'{length} bytes are too many to begin with')
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = connection.recv(min(count, 2**20))
        if not part:
            raise ConnectionError('the connection has ended')
        parts.append(part)
        count -= len(part)
    return b''.join(parts)
