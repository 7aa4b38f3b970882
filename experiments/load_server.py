#!/usr/bin/env python3
"""Puts a load on tools/serve.py: images a second, and how long an answer takes, by the number of clients.

    experiments/load_server.py --net output/demo_ohem/demo_train/small_fast_rcnn_ohem_iter_1400.caffemodel \\
        --images data/demo/JPEGImages --requests 1000
    experiments/load_server.py --def models/pascal_voc/VGG_CNN_M_1024/faster_rcnn_end2end_ohem/test.prototxt

Without --net the weights are random numbers, on which the time does not depend but for the number of boxes; without
--images noise of --size is sent, as JPEG. Clients are threads of this process, each sending as soon as it has its
answer, over a connection that stays. Flags behind -- go to serve.py. The server's memory is read after each tenth of
the requests.
"""

import _environment  # noqa: F401

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tools'))
import _init_paths  # noqa: E402, F401


def main() -> None:
    words = sys.argv[1 : sys.argv.index('--')] if '--' in sys.argv else sys.argv[1:]
    further = sys.argv[sys.argv.index('--') + 1 :] if '--' in sys.argv else []
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--def', dest='prototxt', metavar='FILE', help='test prototxt')
    parser.add_argument('--net', dest='caffemodel', metavar='FILE', help='weights (default: random numbers)')
    parser.add_argument('--clients', type=int, nargs='+', default=[1, 4, 16], metavar='N', help='(1 4 16)')
    parser.add_argument('--requests', type=int, default=100, metavar='N', help='of all clients together (100)')
    parser.add_argument('--images', metavar='FOLDER', help='whose JPEGs are sent in turn')
    parser.add_argument('--size', type=int, nargs=2, default=(500, 375), metavar=('W', 'H'), help='(500 375)')
    args = parser.parse_args(words)
    images = images_to_send(args.images, args.size)
    with tempfile.TemporaryDirectory() as folder:
        flags = ['--net', args.caffemodel or random_weights(args.prototxt, folder)]
        flags += ['--def', args.prototxt] if args.prototxt else []
        server, port = start([*flags, *further])
        try:
            load(port, images, 1, 5)
            print(
                f'{"clients":>7} {"images/s":>9} {"p50 ms":>8} {"p99 ms":>8} {"batch":>6} {"refused":>8}   memory, MB'
            )
            for clients in args.clients:
                print(row(clients, *load(port, images, clients, args.requests)), flush=True)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def images_to_send(folder: str | None, size: tuple[int, int]) -> list[bytes]:
    """JPEG files: those of a folder, or eight of smooth noise."""
    if folder is not None:
        paths = [path for path in sorted(Path(folder).iterdir()) if path.suffix.lower() in ('.jpg', '.jpeg')]
        if not paths:
            raise SystemExit(f'load_server.py: error: no JPEG files in {folder}')
        return [path.read_bytes() for path in paths]
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (8, size[1], size[0], 3), dtype=np.uint8)
    return [cv2.imencode('.jpg', cv2.GaussianBlur(each, (0, 0), 4))[1].tobytes() for each in noise]


def random_weights(prototxt: str, folder: str) -> str:
    """A weights' file for a test net, with class names."""
    import caffe
    from fast_rcnn.model_card import ModelCard, add_card

    caffe.set_mode_cpu()
    net = caffe.Net(prototxt, caffe.TEST)
    rng = np.random.default_rng(0)
    for blobs in net.params.values():
        for blob in blobs:
            spread = np.sqrt(2 / np.prod(blob.shape[1:])) if len(blob.shape) > 1 else 0
            blob.data[...] = rng.standard_normal(blob.shape, np.float32) * np.float32(spread)
    path = os.path.join(folder, 'random.caffemodel')
    net.save(path)
    count = net.blobs['cls_prob'].shape[1]
    add_card(path, ModelCard(('__background__', *(f'class {k}' for k in range(1, count)))))
    return path


def start(flags: list[str]) -> tuple[subprocess.Popen, int]:
    """tools/serve.py in a process of its own, and its port."""
    server = subprocess.Popen(
        [sys.executable, ROOT / 'tools' / 'serve.py', '--port', '0', *flags], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    for line in server.stdout:
        if match := re.search(r' is served at http://127\.0\.0\.1:(\d+)', line):
            return server, int(match[1])
    raise SystemExit(server.wait() or 1)


def load(port: int, images: list[bytes], clients: int, requests: int) -> tuple[float, list, int, list[float]]:
    """Sends so many requests by so many clients.

    Returns the seconds it took, (seconds, images of its batch) of each answer, how many were refused, and the server's
    memory in bytes after each tenth of them.
    """
    numbers = iter(range(requests))
    lock = threading.Lock()
    answers: list[tuple[float, int]] = []
    refused = 0
    memory: list[float] = []

    def client() -> None:
        nonlocal refused
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=600)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            started = time.perf_counter()
            connection.request('POST', '/detect', images[number % len(images)])
            response = connection.getresponse()
            answer = json.loads(response.read())
            seconds = time.perf_counter() - started
            with lock:
                if response.status == 200:
                    answers.append((seconds, answer['batch']))
                else:
                    refused += 1
                if (len(answers) + refused) % max(requests // 10, 1) == 0:
                    memory.append(memory_of(port))
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started, answers, refused, memory


def memory_of(port: int) -> float:
    """The bytes of memory that the server holds, as its /metrics say."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=600)
    connection.request('GET', '/metrics')
    text = connection.getresponse().read().decode()
    connection.close()
    match = re.search(r'^process_resident_memory_bytes (\S+)', text, re.MULTILINE)
    return float(match[1]) if match else float('nan')


def row(clients: int, seconds: float, answers: list, refused: int, memory: list[float]) -> str:
    times, batches = np.array(answers).T
    p50, p99 = np.percentile(times, (50, 99)) * 1000
    held = ' '.join(f'{each / 1e6:.0f}' for each in memory)
    rate, together = len(times) / seconds, batches.mean()
    return f'{clients:>7} {rate:>9.2f} {p50:>8.0f} {p99:>8.0f} {together:>6.1f} {refused:>8}   {held}'


if __name__ == '__main__':
    main()
