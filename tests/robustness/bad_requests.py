#!/usr/bin/env python3
"""Sends a server every kind of bad request, and counts what came back.

tests/robustness/bad_requests.py                     100 of each kind
tests/robustness/bad_requests.py --count 1000 --kinds flipped_bits form

tools/serve.py is started with a small net, 1 MB a request, 4 megapixels an image, 2 seconds to send and 64 connections.
Each kind says which answers are right. After each the server must be healthy, answer a good image as before and hold no
more than 1 GB; no file may have come to be in its folder. Prints a line a kind, and ends with status 1 otherwise.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import http.client
import io
import json
import os
import pickle
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / 'tests' / 'golden' / 'original'
sys.path[:0] = [str(ROOT / 'lib')]
LIMIT = 2**20
MOST_MEMORY = 2**30
ENDED, CUT = 'ended', 'cut'  # without an answer: closed in order, reset


class Server:
    """tools/serve.py in a process and a folder of its own."""

    def __init__(self, folder: Path):
        from fast_rcnn.model_card import ModelCard, add_card

        self.folder = folder / 'cwd'
        self.folder.mkdir()
        net = folder / 'cells.caffemodel'
        shutil.copy(GOLDEN / 'detect.caffemodel', net)
        settings = {'TEST': {'SCALES': [120], 'MAX_SIZE': 200}}
        add_card(str(net), ModelCard(('__background__', 'RBC', 'WBC', 'Platelets'), 'cells', settings))
        self._log = open(folder / 'log', 'w+')  # noqa: SIM115 - as long as the server
        self.process = subprocess.Popen(
            [
                sys.executable, ROOT / 'tools/serve.py', '--gpu', 'cpu', '--def', GOLDEN / 'detect.prototxt',
                '--net', net, '--proposals', 'random', '--port', '0', '--max_bytes', str(LIMIT),
                '--max_pixels', '4000000', '--send_seconds', '2', '--answer_seconds', '20',
            ],
            cwd=self.folder, stdout=self._log, stderr=subprocess.STDOUT,
            env={**os.environ, 'PYTHONPATH': str(ROOT / 'lib'), 'OMP_NUM_THREADS': '1'},
        )  # fmt: skip
        while ' is served at http://' not in self.log():
            if self.process.poll() is not None:
                raise RuntimeError(self.log())
            time.sleep(0.1)
        self.port = int(self.log().split(' is served at http://')[1].split()[0].rsplit(':', 1)[1])

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def peak_memory(self) -> int:
        """Bytes, the most there ever were."""
        status = Path(f'/proc/{self.process.pid}/status').read_text()
        return int(status.split('VmHWM:')[1].split()[0]) * 1024

    def connect(self) -> socket.socket:
        return socket.create_connection(('127.0.0.1', self.port), timeout=30)

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request('GET', path)
            response = connection.getresponse()
            return response.status, response.read()

    def healthy(self) -> bool:
        try:
            return self.get('/health')[0] == 200
        except OSError:  # connections of before are still being cleared away
            return False

    def exchange(self, pieces: Iterator[bytes] | list[bytes]) -> int | str:
        """Sends, and returns the status of the answer, ENDED or CUT."""
        text = b''
        with contextlib.closing(self.connect()) as connection:
            with contextlib.suppress(OSError):
                for piece in pieces:
                    connection.sendall(piece)
            try:
                while b'\r\n' not in text and (more := connection.recv(65536)):
                    text += more
            except TimeoutError:
                return 'silence'
            except OSError:
                return CUT
        return int(text.split()[1]) if text.startswith(b'HTTP/1.') else ENDED

    def post(self, body: bytes, *headers: str) -> int | str:
        return self.exchange([head(len(body), *headers) + body])


def head(length: int | None, *headers: str, path: str = '/detect') -> bytes:
    sizes = [] if length is None else [f'Content-Length: {length}']
    lines = [f'POST {path} HTTP/1.1', 'Host: x', 'Connection: close', *sizes, *headers]
    return '\r\n'.join(lines).encode() + b'\r\n\r\n'


def picture(kind: str, size: int = 80) -> bytes:
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)
    if kind == '.gif':
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, 'GIF')
        return file.getvalue()
    return cv2.imencode(kind, cv2.blur(pixels, (5, 5)))[1].tobytes()


KINDS = ('.jpg', '.png', '.webp', '.bmp', '.gif')


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def png(width: int, height: int, before: bytes = b'', rows: int = 0) -> bytes:
    """A PNG of zeros that claims a size and has so many rows; `before` are chunks before the pixels."""
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b'IDAT', zlib.compress(bytes((3 * width + 1) * rows), 9))
    return b'\x89PNG\r\n\x1a\n' + header + before + pixels + chunk(b'IEND', b'')


# ---- kinds of bad requests: server, number -> what came back


def truncated(server: Server, n: int, rng: random.Random):
    whole = picture(KINDS[n % len(KINDS)])
    return server.post(whole[: rng.randrange(16, len(whole) - 16)])


def flipped_bits(server: Server, n: int, rng: random.Random):
    data = bytearray(picture(KINDS[n % len(KINDS)]))
    for _ in range(rng.choice((1, 3, 30))):
        data[rng.randrange(len(data) if n % 2 else 100)] ^= 1 << rng.randrange(8)
    return server.post(bytes(data))


@functools.cache
def bombs() -> list[bytes]:
    """Images whose headers lie, that are small only as they are stored, or that hide such a thing."""
    zeros = zlib.compress(bytes(300 * 2**20), 9)
    return [
        png(65000, 65000),
        png(2001, 2000),
        png(20000, 12000, rows=12000),  # 720 MB of pixels in 0.7
        picture('.jpg').replace(b'\x00\x50\x00\x50', b'\xff\xff\xff\xff', 1),
        b'GIF89a' + struct.pack('<HH', 65535, 65535) + picture('.gif')[10:],
        picture('.bmp')[:18] + struct.pack('<ii', 30000, 30000) + picture('.bmp')[26:],
        png(80, 80, chunk(b'iCCP', b'a\0\0' + zeros), rows=80),
        png(80, 80, chunk(b'zTXt', b'a\0\0' + zeros) * 2, rows=80),
        png(80, 80, struct.pack('>I', 2**31 - 1) + b'tEXt', rows=80),
        many_scans(),
        png(2000, 2000, rows=2000),  # as large as may be, and fit
    ]


def many_scans() -> bytes:
    """A progressive JPEG of four megapixels that is drawn over some ten thousand times."""
    file = io.BytesIO()
    Image.fromarray(np.full((2000, 2000, 3), 99, np.uint8)).save(file, 'JPEG', progressive=True)
    *scans, last = file.getvalue().removesuffix(b'\xff\xd9').split(b'\xff\xda')
    room = LIMIT - len(file.getvalue())
    return b'\xff\xda'.join([*scans, *[last] * (room // (len(last) + 2))]) + b'\xff\xd9'


def bomb(server: Server, n: int, rng: random.Random):
    return server.post(bombs()[n % len(bombs())])


def wrong_type(server: Server, n: int, rng: random.Random):
    bodies = [
        b'', b'hello', b'{}', b'<svg xmlns="http://www.w3.org/2000/svg"/>', b'%!PS-Adobe-3.0 EPSF-3.0\n', b'%PDF-1.7\n',
        b'PK\x03\x04' + bytes(100), b'\x7fELF' + bytes(100), pickle.dumps({'a': [1]}),
        cv2.imencode('.tiff', _GREY)[1].tobytes(), cv2.imencode('.jp2', _GREY)[1].tobytes(),
        cv2.imencode('.ppm', _GREY)[1].tobytes(), rng.randbytes(5000), b'file:///etc/passwd', b'http://127.0.0.1/a.jpg',
    ]  # fmt: skip
    return server.post(bodies[n % len(bodies)], rng.choice(('Content-Type: image/jpeg', 'Content-Type: text/html')))


_GREY = np.full((40, 40, 3), 128, np.uint8)


def huge_body(server: Server, n: int, rng: random.Random):
    def endless() -> Iterator[bytes]:
        yield head(None, 'Transfer-Encoding: chunked')
        for _ in range(200):
            yield b'10000\r\n' + bytes(65536) + b'\r\n'

    def long() -> Iterator[bytes]:
        yield head(40 * LIMIT)
        for _ in range(640):
            yield bytes(65536)

    kinds = [
        lambda: server.post(bytes(LIMIT + 1)),
        lambda: server.post(bytes(3 * LIMIT)),
        lambda: server.exchange(long()),
        lambda: server.exchange(endless()),
        lambda: server.exchange([head(10**12)]),
        lambda: server.exchange([head(10**300)]),
        lambda: server.exchange([head(10**9, 'Expect: 100-continue')]),
    ]
    return kinds[n % len(kinds)]()


def slow_sender(server: Server, n: int, rng: random.Random):
    body = picture('.jpg')
    text = head(len(body)) + body if n % 2 else b'POST /detect HTTP/1.1\r\n' + b'X-a: b\r\n' * 1000

    def drop_by_drop() -> Iterator[bytes]:
        yield text[:100]
        for k in range(100, 130):
            time.sleep(0.2)
            yield text[k : k + 1]

    return server.exchange(drop_by_drop())


def slow_reader(server: Server, n: int, rng: random.Random):
    """Asks for the page a thousand times and reads nothing. The server counts those that it cuts."""
    with contextlib.closing(server.connect()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(1)
        with contextlib.suppress(OSError):
            connection.sendall(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n' * 1000)
        for _ in range(40):  # the server allows 27 seconds in all
            cut = re.search(rb'connections_cut_total\{reason="slow"\} (\d+)', server.get('/metrics')[1])
            if cut is not None and int(cut[1]) > n:
                return CUT
            time.sleep(1)
    return 'still open'


def form(server: Server, n: int, rng: random.Random):
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n%s\r\n' % picture('.jpg')
    kind = 'Content-Type: multipart/form-data; boundary=x'
    whole = part + b'--x--\r\n'
    flipped = bytearray(whole)
    flipped[rng.randrange(100)] ^= 1 << rng.randrange(8)
    bodies = [
        (whole[: rng.randrange(len(whole))], kind),
        (bytes(flipped), kind),
        (part * 20 + b'--x--\r\n', kind),
        (b'--x\r\n\r\n\r\n' * 20000, kind),
        (b'--x\r\n' + b'A: b\r\n' * 50000 + b'\r\n' + whole, kind),
        (b'--x\r\nContent-Disposition: form-data; ' + b'a="' * 100000 + b'\r\n\r\n', kind),
        (b'--x\r\nA: ' + b'a' * 900000, kind),
        ((b'\r\n--' + b'x' * 69) * 14000, 'Content-Type: multipart/form-data; boundary=' + 'x' * 70),
        (whole, 'Content-Type: multipart/form-data'),
        (whole, 'Content-Type: multipart/form-data; boundary=' + 'x' * 5000),
        (whole, 'Content-Type: multipart/form-data; boundary="\u00e9'),
        (whole.replace(b'--x', b'--y'), kind),
        (rng.randbytes(2000), kind),
        (b'', kind),
    ]
    body, content_type = bodies[n % len(bodies)]
    return server.exchange([head(len(body), content_type) + body])


def name_of_file(server: Server, n: int, rng: random.Random):
    names = [
        '../../../../tmp/pwned.jpg', '/etc/passwd', '..\\..\\pwned.jpg', 'C:\\pwned.jpg', 'pwned.jpg', '~/pwned.jpg',
        '.', '..', '%2e%2e%2fpwned.jpg', 'a' * 3000, '$(touch pwned)', '`touch pwned`', '| touch pwned', 'pwned\0.jpg',
        "'; drop table", '',
    ]  # fmt: skip
    name = names[n % len(names)].encode()
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n\r\n%s\r\n--x--\r\n'
    body %= (name, picture('.jpg') if n % 3 else b'no image')
    return server.post(body, 'Content-Type: multipart/form-data; boundary=x')


def bad_http(server: Server, n: int, rng: random.Random):
    lines = [
        b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + rng.randbytes(200) + b'\r\n\r\n',
        b'GET\r\n\r\n', b'GET / HTTP/9.9\r\n\r\n', b'\r\n' * 50 + b'x\r\n\r\n', rng.randbytes(300) + b'\r\n\r\n',
        b'POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nabc',
        b'POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc',
        b'POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n',
        b'POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n',
        b'GET /' + b'a' * 100000 + b' HTTP/1.1\r\nHost: x\r\n\r\n',
        b'GET / HTTP/1.1\r\nHost: x\r\nX: ' + b'a' * 100000 + b'\r\n\r\n',
        b'GET /%00%ff/../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
        b'POST /detect?threshold=1e999 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n',
        b'POST /detect?turn=%ff&threshold= HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n',
        b'DELETE /detect HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
        b'GET /detect HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n',
    ]  # fmt: skip
    return server.exchange([lines[n % len(lines)]])


def leaving(server: Server, n: int, rng: random.Random):
    """A client that goes: in the middle of its request, or before the answer; by a reset, or in order."""
    body = picture('.jpg', 400)
    text = head(len(body)) + body
    with contextlib.closing(server.connect()) as connection:
        connection.sendall(text if n % 2 else text[: rng.randrange(len(text))])
        if n % 4 < 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    return 'left'


def many_connections(server: Server, n: int, rng: random.Random):
    """As many as come, all at once, that say nothing for a while and then ask."""
    with contextlib.closing(server.connect()) as connection:
        time.sleep(1)
        try:
            connection.sendall(b'GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
            text = connection.recv(100)
        except OSError:
            return CUT
    return int(text.split()[1]) if text else ENDED


def flood(server: Server, n: int, rng: random.Random):
    return server.post(picture('.jpg', 400))


# kind -> (what sends one, answers that are right, how many at the same time, share of --count)
ALL: dict[str, tuple[Callable, set, int, float]] = {
    'truncated': (truncated, {415, 422}, 4, 1),
    'flipped_bits': (flipped_bits, {200, 413, 415, 422}, 4, 1),
    'bomb': (bomb, {200, 413, 422}, 2, 0.2),
    'wrong_type': (wrong_type, {415, 422}, 4, 1),
    'huge_body': (huge_body, {400, 413, CUT, ENDED}, 2, 0.28),
    'slow_sender': (slow_sender, {408}, 50, 1),
    'slow_reader': (slow_reader, {CUT}, 10, 0.02),
    'form': (form, {200, 400, 413, 415, 422}, 4, 1),
    'name_of_file': (name_of_file, {200, 400, 415, 422}, 4, 1),
    'bad_http': (bad_http, {200, 400, 404, 405, 422, CUT, ENDED}, 4, 1),
    'leaving': (leaving, {'left'}, 4, 1),
    'many_connections': (many_connections, {200, 503, CUT, ENDED}, 500, 5),
    'flood': (flood, {200, 503}, 60, 2),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--count', type=int, default=100, help='requests of a kind (default: 100)')
    parser.add_argument('--kinds', nargs='+', choices=ALL, default=list(ALL), metavar='KIND', help=', '.join(ALL))
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            return trial(server, args)
        finally:
            server.process.kill()
            server.process.wait()


def trial(server: Server, args: argparse.Namespace) -> int:
    good = (GOLDEN / 'images' / 'BloodImage_00007.jpg').read_bytes()
    wanted = found_in(server, good)
    wrong = []
    for kind in args.kinds:
        send, right, together, share = ALL[kind]
        total = max(1, round(args.count * share))
        started = time.perf_counter()
        with ThreadPoolExecutor(min(together, total)) as threads:
            seeds = [random.Random(f'{args.seed} {kind} {n}') for n in range(total)]
            came = collections.Counter(threads.map(send, [server] * total, range(total), seeds))
        answers = ', '.join(f'{count} x {answer}' for answer, count in sorted(came.items(), key=str))
        print(
            f'{kind}: {total} requests, {answers}; {time.perf_counter() - started:.1f} s, '
            f'at most {server.peak_memory() / 2**20:.0f} MB so far',
            flush=True,
        )
        wrong += [f'{kind}: {answer}' for answer in came if answer not in right]
        end = time.monotonic() + 30
        while not server.healthy() or found_in(server, good) != wanted:
            if server.process.poll() is not None or time.monotonic() > end:
                wrong.append(f'{kind}: no good answers after it')
                break
            time.sleep(0.5)
    if server.peak_memory() > MOST_MEMORY:
        wrong.append(f'{server.peak_memory()} bytes of memory')
    if left := [str(path) for path in (*server.folder.rglob('*'), *Path('/tmp').glob('*pwned*'))]:
        wrong.append(f'files: {left}')
    if 'Traceback' in server.log():
        wrong.append(server.log()[-3000:])
    server.process.send_signal(signal.SIGTERM)
    if server.process.wait(60) != 0:
        wrong.append(f'exit status {server.process.returncode}')
    print('\n'.join(['WRONG', *wrong]) if wrong else 'all as it should be')
    return int(bool(wrong))


def found_in(server: Server, data: bytes) -> list | str:
    """The detections in an image, or what came instead."""
    connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=60)
    try:
        connection.request('POST', '/detect?threshold=0.1', data)
        response = connection.getresponse()
        return json.loads(response.read())['detections'] if response.status == 200 else str(response.status)
    except OSError as error:
        return str(error)
    finally:
        connection.close()


if __name__ == '__main__':
    threading.stack_size(2**18)  # there are hundreds
    sys.exit(main())
