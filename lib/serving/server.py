"""Listening, and ending well: what is running is finished, what waits is told."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Iterator

import cv2
import uvicorn
from fastapi import FastAPI

from serving.connection import connections_within
from serving.limits import Limits
from serving.metrics import Metrics

_HEADERS = [('X-Content-Type-Options', 'nosniff'), ('Cache-Control', 'no-store')]
_LONGEST_HEAD = 16 * 2**10  # bytes


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address of this machine; port 0 takes a free one.

    Raises ValueError where it cannot: another program listens there, or the address is none of this machine's.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f'port {port}: expected 0, for any that is free, to 65535')
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(found[4][:2], family=found[0], backlog=128)
    except OSError as error:
        words = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ValueError(f'cannot listen at {host}, port {port}: {words}. Give another --host or --port') from None


def address_of(listener: socket.socket) -> str:
    """What to type into a browser."""
    host, port = listener.getsockname()[:2]
    return f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def serve(app: FastAPI, listener: socket.socket, limits: Limits, metrics: Metrics) -> int:
    """Serves until Ctrl-C or SIGTERM. Returns the exit status: 0 after SIGTERM or SIGHUP, 130 after Ctrl-C.

    What is running is finished first; a second signal ends the process at once.
    """
    config = uvicorn.Config(
        app,
        http=connections_within(limits, metrics),  # type: ignore[arg-type]
        ws='none',
        lifespan='on',
        loop='asyncio',
        log_level='error',
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=_HEADERS,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
        timeout_graceful_shutdown=int(limits.send_seconds + limits.answer_seconds) + 1,
    )
    # What is wrong with a request its sender is told; a log that strangers can fill is read by nobody
    logging.getLogger('python_multipart').setLevel(logging.ERROR)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    server = _Server(config)
    asyncio.run(server.serve(sockets=[listener]))
    return server.status


class _Server(uvicorn.Server):
    """uvicorn's server, but with our signals: its own raises them again at the end, which is no clean end."""

    status = 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        signals = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, 'SIGHUP') else [])]
        heard = [each for each in signals if signal.getsignal(each) is not signal.SIG_IGN]  # as nohup has it
        before = {each: signal.signal(each, self.handle_exit) for each in heard}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: object) -> None:
        status = 130 if sig == signal.SIGINT else 0
        if self.should_exit:
            os.write(2, b'ended at once; what was running is lost\n')
            os._exit(status or 143)
        self.should_exit = True
        self.status = status

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        cycles = [getattr(each, 'cycle', None) for each in self.server_state.connections]
        running = sum(each is not None and not each.response_complete for each in cycles)
        what = {0: 'nothing is running', 1: 'finishing 1 request'}.get(running, f'finishing {running} requests')
        print(f'Shutting down: {what} (again to end at once)', flush=True)
        await super().shutdown(sockets)
