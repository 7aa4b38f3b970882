"""A connection of uvicorn's, with deadlines: uvicorn itself waits for ever for a head, a body, or a reader.

Every state of a connection has one: its client has `send_seconds` for a head; for a body, and for the answer, the
application has its own, and what outlasts them all is cut; so is a connection whose peer does not read.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.limits import Limits
from serving.metrics import Metrics

_CLOSING_SECONDS = 5.0


def connections_within(limits: Limits, metrics: Metrics) -> Callable[..., H11Protocol]:
    """The class of connections that uvicorn is to make, with these limits."""

    class Connection(LimitedConnection):
        pass

    Connection.limits, Connection.metrics = limits, metrics
    return Connection


class LimitedConnection(H11Protocol):
    """A connection with a deadline in every state. One too many is told so and closed."""

    limits: Limits
    metrics: Metrics
    _timer: asyncio.TimerHandle | None = None
    _timed: object = None  # the request that the timer is for, or the name of a state

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # An answer is two writes: the second would wait 40 ms for the first to be acknowledged. asyncio sees to it only
        # where the socket was made with the number of the protocol
        with contextlib.suppress(OSError):
            transport.get_extra_info('socket').setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.metrics.connections.set(len(self.connections))
        if len(self.connections) > 2 * self.limits.connections:  # they are not even told
            self._cut('too many connections')
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.metrics.connections.set(len(self.connections))
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None and len(self.connections) > self.limits.connections:
            words = f'{self.limits.connections} connections are open, the most that may be; try again in a moment'
            self._say(503, words, 'too many connections')
        else:
            super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        self._say(400, 'this is no request of HTTP/1.1', 'no HTTP')

    def _watch(self) -> None:
        """Sees to it that the state in which the connection is now has its deadline."""
        limits = self.limits
        if self.transport.is_closing():
            state: object = 'closing'
            seconds = _CLOSING_SECONDS
        elif self.cycle is None or self.cycle.response_complete:
            state, seconds = ('head', self.cycle), limits.send_seconds
        else:
            state, seconds = self.cycle, limits.send_seconds + limits.answer_seconds + _CLOSING_SECONDS
        if state != self._timed:
            if self._timer is not None:
                self._timer.cancel()
            self._timed, self._timer = state, self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        if self._timed == 'closing':
            self.transport.abort()
        elif self.cycle is None and self.conn.trailing_data[0]:
            words = f'the head of the request was not there after {self.limits.send_seconds:g} seconds'
            self._say(408, words, 'slow head')
        else:
            self._cut('idle' if isinstance(self._timed, tuple) else 'slow')
        self._watch()

    def _say(self, status: int, words: str, reason: str) -> None:
        """Answers what never became a request, and closes."""
        self.metrics.cut.labels(reason).inc()
        body = json.dumps({'detail': words}).encode()
        headers = [('Content-Type', 'application/json'), ('Content-Length', str(len(body))), ('Connection', 'close')]
        if status == 503:
            headers.append(('Retry-After', '1'))
        try:
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b'')
        except h11.LocalProtocolError:  # an answer has begun
            pass
        self.transport.close()

    def _cut(self, reason: str) -> None:
        self.metrics.cut.labels(reason).inc()
        self.transport.abort()
