"""tools/serve.py from start to goodbye, as its users meet it: by sockets and signals."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from commands import ROOT, run

from fast_rcnn.model_card import ModelCard, add_card

pytest.importorskip('uvicorn')

GOLDEN = ROOT / 'tests' / 'golden' / 'original'
PHOTO = (GOLDEN / 'images' / 'BloodImage_00007.jpg').read_bytes()


@pytest.fixture(scope='module')
def net(tmp_path_factory):
    """The flags of a small net with weights that say their classes and settings."""
    path = tmp_path_factory.mktemp('net') / 'cells.caffemodel'
    shutil.copy(GOLDEN / 'detect.caffemodel', path)
    settings = {'TEST': {'SCALES': [120], 'MAX_SIZE': 200}}
    add_card(str(path), ModelCard(('__background__', 'RBC', 'WBC', 'Platelets'), 'cells', settings))
    return ['--gpu', 'cpu', '--def', GOLDEN / 'detect.prototxt', '--net', path, '--proposals', 'random']


class Server:
    """tools/serve.py in a process of its own."""

    def __init__(self, *flags):
        environment = {**os.environ, 'PYTHONPATH': str(ROOT / 'lib'), 'OMP_NUM_THREADS': '1'}
        self.process = subprocess.Popen(
            [sys.executable, 'tools/serve.py', *map(str, flags), '--port', '0'],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.said = ''
        line = self.read_until(' is served at ')
        self.port = int(line.split(' is served at http://')[1].split()[0].rsplit(':', 1)[1])

    def read_until(self, words):
        for line in self.process.stdout:
            self.said += line
            if words in line:
                return line
        raise AssertionError(self.said)

    def connect(self):
        return socket.create_connection(('127.0.0.1', self.port), timeout=60)

    def post(self, body, path='/detect'):
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        connection.request('POST', path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def end(self, number):
        self.process.send_signal(number)
        self.said += self.process.communicate(timeout=60)[0]
        return self.process.returncode


@contextlib.contextmanager
def serving(*flags):
    server = Server(*flags)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def answer_of(connection):
    """What comes until the connection ends: the head, and the body as JSON."""
    text = b''
    while piece := connection.recv(65536):
        text += piece
    head, _, body = text.partition(b'\r\n\r\n')
    return head.decode(), json.loads(body)


def test_a_picture_is_answered_and_a_running_request_is_finished(net):
    with serving(*net) as server:
        status, answer = server.post(PHOTO, '/detect?threshold=0.1')
        assert status == 200 and answer['size'] == {'width': 640, 'height': 480}
        assert {each['name'] for each in answer['detections']} <= {'RBC', 'WBC', 'Platelets'}
        assert answer['detections']
        half = server.connect()
        half.sendall(b'POST /detect?threshold=0.1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n' % len(PHOTO))
        half.sendall(PHOTO[:1000])
        assert server.post(b'')[0] == 422  # by now the half request has been met
        server.process.send_signal(signal.SIGTERM)
        server.read_until('Shutting down: finishing 1 request')
        half.sendall(PHOTO[1000:])
        head, finished = answer_of(half)
        assert head.startswith('HTTP/1.1 200') and finished['detections'] == answer['detections']
        server.read_until('Goodbye')
        assert server.process.wait(20) == 0
        assert 'Note: whoever' not in server.said and 'Traceback' not in server.said


def test_slow_senders_too_many_connections_and_a_note_where_all_the_world_may_come(net):
    with serving(*net, '--send_seconds', 1, '--connections', 3, '--host', '0.0.0.0') as server:
        assert 'Note: whoever reaches 0.0.0.0 may send images' in server.said
        slow_head, slow_body = server.connect(), server.connect()
        slow_head.sendall(b'POST /detect HTTP/1.1\r\nHost:')
        slow_body.sendall(b'POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc')
        for connection, words in ((slow_head, 'head of the request'), (slow_body, 'body was not there')):
            head, answer = answer_of(connection)
            assert head.startswith('HTTP/1.1 408') and words in answer['detail']
        idle = server.connect()
        assert idle.recv(10) == b''  # one who says nothing is told nothing
        held = [server.connect() for _ in range(3)]
        status, answer = server.post(PHOTO)
        assert status == 503 and '3 connections are open, the most that may be' in answer['detail']
        for connection in held:
            connection.close()
        garbage = server.connect()
        garbage.sendall(b'\x16\x03\x01 this is TLS\r\n\r\n')
        head, answer = answer_of(garbage)
        assert head.startswith('HTTP/1.1 400') and 'no request of HTTP' in answer['detail']
        assert server.post(PHOTO)[0] == 200
        assert server.end(signal.SIGINT) == 130 and server.said.endswith('Goodbye\n')


def test_a_second_signal_ends_it_at_once(net):
    with serving(*net) as server:
        half = server.connect()
        half.sendall(b'POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc')
        assert server.post(b'')[0] == 422
        server.process.send_signal(signal.SIGTERM)
        server.read_until('finishing 1 request')
        assert server.end(signal.SIGTERM) == 143
        assert 'ended at once' in server.said


def test_what_is_wrong_at_the_start_is_one_line(net):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        said = run('tools/serve.py', *net, '--port', port, status=1).stderr
    assert said == (
        f'serve.py: error: cannot listen at 127.0.0.1, port {port}: Address already in use. '
        'Give another --host or --port\n'
    )
    for flags, words in (
        (['--batch', 0], 'the limit of batch is 0; expected a number above 0'),
        (['--net', GOLDEN / 'detect.caffemodel'], 'does not name its classes'),
    ):
        said = run('tools/serve.py', *net, *flags, status=1).stderr
        assert said.startswith('serve.py: error: ') and words in said and said.count('\n') == 1
    said = run('tools/serve.py', *net, '--det_thresh', -1, status=1).stderr  # what is allowed the net says
    assert said.endswith('serve.py: error: --det_thresh is -1.0; expected 0 to 1\n')
