"""The server's application, in this process: what it answers, what it refuses, and with which words."""

import contextlib
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from prometheus_client.parser import text_string_to_metric_families
from served import ToldDetector, form, jpeg_of_scans, picture, png_of

import caffe
from fast_rcnn import Detector
from fast_rcnn.model_card import ModelCard, add_card

TestClient = pytest.importorskip('fastapi.testclient').TestClient

from serving.app import make_app  # noqa: E402
from serving.batching import Batcher  # noqa: E402
from serving.limits import Limits, Refusal  # noqa: E402
from serving.metrics import Metrics  # noqa: E402
from serving.picture import header_of, turned  # noqa: E402
from serving.server import listen  # noqa: E402

GOLDEN = Path(__file__).parents[1] / 'golden' / 'original'
FORM = 'multipart/form-data; boundary=xyz'
PHOTO = GOLDEN / 'images' / 'BloodImage_00007.jpg'


@contextlib.contextmanager
def served(detect, scores=(0, 1), **limits):
    app = make_app(detect, 'told.caffemodel', ['button', 'leaf'], limits=Limits(**limits), scores=scores)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def told():
    return ToldDetector()


@pytest.fixture
def client(told):
    """A server of a told detector with small limits: 20000 bytes, 100 x 100 pixels."""
    with served(told, bytes=20_000, pixels=10_000, queue=3, batch=2) as client:
        yield client


def wait_until(state):
    end = time.monotonic() + 120
    while not state():
        assert time.monotonic() < end
        time.sleep(0.005)


# ---- answers


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    """The original's recorded net, which proposes nothing itself."""
    caffe.set_mode_cpu()
    path = tmp_path_factory.mktemp('net') / 'cells.caffemodel'
    shutil.copy(GOLDEN / 'detect.caffemodel', path)
    settings = {'TEST': {'SCALES': [120], 'MAX_SIZE': 200, 'NMS': 0.4}}
    add_card(str(path), ModelCard(('__background__', 'RBC', 'WBC', 'Platelets'), 'cells', settings))
    return Detector.load(path, GOLDEN / 'detect.prototxt', thresh=0.05, proposals='random', batch=4)


def test_the_answer_is_what_the_detector_finds_in_the_same_file(detector):
    wanted = [box for box in detector(cv2.imread(str(PHOTO))) if box.score >= 0.2]
    with served(detector) as client:
        response = client.post('/detect?threshold=0.2', content=PHOTO.read_bytes())
    answer = response.json()
    assert response.status_code == 200
    assert answer['size'] == {'width': 640, 'height': 480} and answer['orientation'] == 1
    assert len(wanted) > 3
    assert answer['detections'] == [
        {'name': b.name, 'score': round(b.score, 4), 'box': [round(v, 1) for v in (b.x1, b.y1, b.x2, b.y2)]}
        for b in wanted
    ]
    assert answer['ms']['total'] >= answer['ms']['detecting'] > 0


def test_a_form_and_a_bare_body_are_the_same(client):
    bare = client.post('/detect', content=picture()).json()
    formed = client.post('/detect', **form(('note', None, b'hello'), ('file', 'a.png', picture()))).json()
    for answer in (bare, formed):
        del answer['ms']
    assert bare == formed
    assert bare['detections'] == [{'name': 'button', 'score': 0.75, 'box': [0, 0, 31, 23]}]


def test_a_progressive_jpeg_is_an_image_like_others(client):
    assert client.post('/detect', content=jpeg_of_scans(10)).json()['size'] == {'width': 64, 'height': 64}


@pytest.mark.parametrize('query, count', [('', 1), ('?threshold=0.75', 1), ('?threshold=0.76', 0)])
def test_the_request_may_say_the_least_score(client, query, count):
    assert len(client.post('/detect' + query, content=picture()).json()['detections']) == count


@pytest.mark.parametrize('orientation', range(1, 9))
def test_turning_goes_by_exif_as_pillow_does_it(orientation):
    image = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(turned(np.asarray(image), orientation), np.asarray(ImageOps.exif_transpose(image)))


def test_an_image_is_turned_where_the_request_asks(client, tmp_path):
    image = Image.new('RGB', (40, 20), 'red')
    image.getexif()[0x0112] = 6
    image.save(tmp_path / 'a.jpg', exif=image.getexif())
    data = (tmp_path / 'a.jpg').read_bytes()
    stored = client.post('/detect', content=data).json()
    turned = client.post('/detect?turn=true', content=data).json()
    assert (stored['size'], stored['orientation']) == ({'width': 40, 'height': 20}, 6)
    assert turned['size'] == {'width': 20, 'height': 40}
    assert turned['detections'][0]['box'] == [0, 0, 19, 39]


# ---- batches


def test_what_comes_while_a_batch_runs_makes_the_next_ones(client, told):
    told.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(client.post, '/detect', content=picture())
        assert told.entered.wait(20)
        others = [threads.submit(client.post, '/detect', content=picture(seed=k)) for k in range(3)]
        wait_until(lambda: client.get('/health').json()['waiting'] == 3)
        told.gate.set()
        assert first.result().json()['batch'] == 1
        assert sorted(each.result().json()['batch'] for each in others) == [1, 2, 2]
    assert told.batches == [1, 2, 1]


def test_a_batch_has_no_more_pixels_than_one_image_may(client, told):
    told.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        requests = [threads.submit(client.post, '/detect', content=picture(90, 60)) for _ in range(3)]
        assert told.entered.wait(20)
        wait_until(lambda: client.get('/health').json()['waiting'] == 2)
        told.gate.set()
        assert [each.result().status_code for each in requests] == [200] * 3
    assert told.batches == [1, 1, 1]  # two are 10800 pixels


def test_a_batch_is_the_first_that_waits_and_those_of_its_size(client, told):
    told.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        requests = [threads.submit(client.post, '/detect', content=picture())]
        assert told.entered.wait(20)
        for waiting, (width, height) in enumerate([(20, 10), (10, 20), (20, 10)], 1):
            requests.append(threads.submit(client.post, '/detect', content=picture(width, height)))
            wait_until(lambda n=waiting: client.get('/health').json()['waiting'] == n)
        told.gate.set()
        assert [each.result().json()['batch'] for each in requests] == [1, 2, 1, 2]
    assert told.batches == [1, 2, 1]


def test_one_image_spoils_no_other_of_its_batch(client, told, caplog):
    told.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(client.post, '/detect', content=picture())
        assert told.entered.wait(20)
        bad = threads.submit(client.post, '/detect', content=picture(most=1))
        good = threads.submit(client.post, '/detect', content=picture())
        wait_until(lambda: client.get('/health').json()['waiting'] == 2)
        told.gate.set()
        assert first.result().status_code == good.result().status_code == 200
        answer = bad.result()
    assert answer.status_code == 500
    assert 'secret' not in answer.text and "in the server's log" in answer.json()['detail']
    assert 'no memory at /secret/place' in caplog.text


# ---- refusals


def truncated(kind):
    whole = picture(60, 60, kind)
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    'content, status, words',
    [
        (b'', 422, 'the body is empty'),
        (b'hello', 415, 'JPEG, PNG, WEBP, BMP, GIF'),
        (b'{"image": "photo.jpg"}', 415, 'no image of a kind'),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, 'no image of a kind'),
        (b'%!PS-Adobe-3.0 EPSF-3.0\n', 415, 'no image of a kind'),
        (picture(kind='.tiff'), 415, 'no image of a kind'),
        (truncated('.jpg'), 422, 'the image is damaged: .*truncated'),
        (truncated('.png'), 422, 'the image is damaged'),
        (truncated('.webp'), 422, 'the image is damaged'),
        (truncated('.bmp'), 422, 'the image is damaged'),
        (jpeg_of_scans(101), 422, '101 scans, more than the 100'),
        (png_of(101, 100), 413, '101 x 100 pixels, more than the 10000 accepted'),
        (png_of(60000, 60000), 413, '60000 x 60000 pixels'),
        (bytes(20_001), 413, 'larger than 20000 bytes'),
        (bytes(500_000), 413, 'larger than 20000 bytes'),
    ],
)
def test_a_body_that_is_no_fit_image_is_refused_with_words(client, told, content, status, words):
    response = client.post('/detect', content=content)
    assert response.status_code == status
    assert re.search(words, response.json()['detail'])
    assert told.batches == []


def test_who_sends_an_image_as_a_form_s_text_is_told_how_to_send_it(client):
    """`curl -d @photo.jpg` drops line ends; what arrives whole, as from Python's urllib, is answered."""
    headers = {'content-type': 'application/x-www-form-urlencoded'}
    spoilt = client.post('/detect', content=picture().replace(b'\n', b''), headers=headers)
    assert spoilt.status_code in (415, 422) and '--data-binary @FILE' in spoilt.json()['detail']
    assert '--data-binary' not in client.post('/detect', content=b'hello').json()['detail']
    assert client.post('/detect', content=picture(), headers=headers).status_code == 200


def test_a_body_that_states_no_length_is_counted(client):
    response = client.post('/detect', content=(bytes(1000) for _ in range(30)))
    assert (response.status_code, response.headers['connection']) == (413, 'close')


@pytest.mark.parametrize(
    'request_of, status, words',
    [
        (form(('note', None, b'hello')), 422, 'no file'),
        (form(('a', 'a.png', picture()), ('b', 'b.png', picture())), 422, '2 files; expected one'),
        (form(*[('note', None, b'')] * 17), 422, 'more than 16 parts'),
        (form(('image', 'a.png', b'')), 422, 'empty'),
        (form(('image', 'a.png', picture()), end=False), 400, 'ends without its closing boundary'),
        ({'content': b'hello', 'headers': {'Content-Type': 'multipart/form-data'}}, 400, 'no boundary'),
        ({'content': b'hello', 'headers': {'Content-Type': FORM}}, 400, 'cannot be read'),
        ({'content': picture(), 'headers': {'Content-Encoding': 'gzip'}}, 415, 'compressed'),
    ],
)  # fmt: skip
def test_a_form_without_exactly_one_file_is_refused(client, request_of, status, words):
    response = client.post('/detect', **request_of)
    assert response.status_code == status
    assert words in response.json()['detail']


def test_a_name_that_the_client_gives_is_no_path_of_the_server(client, tmp_path, monkeypatch):
    (tmp_path / 'there.png').write_bytes(picture())
    monkeypatch.chdir(tmp_path)
    for name in ('there.png', f'{tmp_path}/there.png', '../there.png', '..\\there.png', '/etc/passwd\0.png'):
        assert client.post('/detect', **form(('image', name, b'no image'))).status_code in (400, 415)
        assert client.post('/detect', **form(('image', name + '.new', picture()))).status_code in (200, 400)
    assert [path.name for path in tmp_path.iterdir()] == ['there.png']


@pytest.mark.parametrize('query', ['threshold=2', 'threshold=nan', 'threshold=x', 'turn=perhaps'])
def test_a_query_that_cannot_be_honoured(client, query):
    response = client.post(f'/detect?{query}', content=picture())
    assert response.status_code == 422
    name, _, value = query.partition('=')
    wanted = {'threshold': 'a number from 0 to 1', 'turn': 'true or false'}[name]
    assert response.json()['detail'] == f"{name}: expected {wanted}; got '{value}'"


def test_scores_of_svms_have_other_bounds(told):
    with served(told, scores=(-100, 100)) as client:
        assert client.post('/detect?threshold=-1.5', content=picture()).status_code == 200
        assert client.get('/health').json()['scores'] == [-100, 100]
        refused = client.post('/detect?threshold=101', content=picture())
    assert refused.json()['detail'] == "threshold: expected a number from -100 to 100; got '101'"


def test_a_misspelt_query_is_not_passed_over(client):
    response = client.post('/detect?treshold=0.1', content=picture())
    assert response.status_code == 422
    assert response.json()['detail'] == 'treshold: there is no such query; there are threshold and turn'


def test_a_full_queue(client, told):
    told.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        requests = [threads.submit(client.post, '/detect', content=picture())]
        assert told.entered.wait(20)
        requests += [threads.submit(client.post, '/detect', content=picture()) for _ in range(3)]
        wait_until(lambda: client.get('/health').json()['waiting'] == 3)
        refused = client.post('/detect', content=picture())
        told.gate.set()
        assert [each.result().status_code for each in requests] == [200] * 4
    assert (refused.status_code, refused.headers['retry-after']) == (503, '1')
    assert refused.json()['detail'].startswith('3 images are waiting, the most that may')


def test_an_answer_that_takes_too_long(told):
    told.gate.clear()
    with served(told, answer_seconds=0.2) as client:
        late = client.post('/detect', content=picture())
        assert late.status_code == 504 and 'within 0.2 seconds' in late.json()['detail']
        waiting = client.post('/detect', content=picture())  # behind the one that is still worked on
        assert waiting.status_code == 504
        health = client.get('/health')
        assert health.status_code == 503 and 'more than 0.2 seconds' in health.json()['detail']
        told.gate.set()
        wait_until(lambda: client.get('/health').status_code == 200)
        assert client.post('/detect', content=picture()).status_code == 200
    assert told.batches == [1, 1]  # nobody waited for the second any more: it was not done


def test_what_runs_is_finished_and_what_waits_is_told_when_the_server_ends(told):
    told.gate.clear()
    limits = Limits()
    batcher = Batcher(told, limits, Metrics())
    batcher.start()
    header = header_of(picture(), limits)
    running = batcher.submit(picture(), header, False)
    assert told.entered.wait(20)
    waiting = batcher.submit(picture(), header, False)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    wait_until(lambda: refused(batcher, header))
    told.gate.set()
    closing.join(20)
    assert running.result(20).detections[0].name == 'button'
    assert waiting.exception(20).status == 503 and 'shutting down' in waiting.exception(20).words


def refused(batcher, header):
    try:
        batcher.submit(picture(), header, False)
    except Refusal as refusal:
        return refusal.words == 'the server is shutting down'
    return False


# ---- the other addresses


def test_health_says_what_is_served(client):
    response = client.get('/health')
    state = response.json()
    assert (response.status_code, state['status'], state['model']) == (200, 'ok', 'told.caffemodel')
    assert state['classes'] == ['button', 'leaf']
    assert state['limits'] == {'bytes': 20_000, 'pixels': 10_000, 'seconds': 60}


def test_metrics_are_prometheus_text_and_count(client):
    for content in (picture(), picture(), b'hello'):
        client.post('/detect', content=content)
    response = client.get('/metrics')
    assert response.headers['content-type'].startswith('text/plain; version=0.0.4')
    samples = {
        (s.name, *s.labels.values()): s.value
        for family in text_string_to_metric_families(response.text)
        for s in family.samples
    }
    assert samples['detector_answers_total', '200'] == 2
    assert samples['detector_answers_total', '415'] == 1
    assert samples['detector_objects_total', 'button'] == 2
    assert samples['detector_answer_seconds_count',] == 2
    assert samples['detector_batch_images_sum',] == 2


def test_the_page_needs_nothing_from_elsewhere(client):
    response = client.get('/')
    assert response.headers['content-type'].startswith('text/html')
    assert "default-src 'none'" in response.headers['content-security-policy']
    assert re.findall(r'(?:src|href)\s*=\s*"|url\(|@import|https?://', response.text) == []


@pytest.mark.parametrize(
    'method, path, status', [('GET', '/nothing', 404), ('GET', '/detect', 405), ('GET', '/%2e%2e/etc/passwd', 404)]
)
def test_other_addresses_and_methods(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status and '/detect' in response.json()['detail']


@pytest.mark.parametrize(
    'host, port, words',
    [
        ('127.0.0.1', 70000, 'port 70000: expected 0'),
        ('192.0.2.1', 0, 'cannot listen at 192.0.2.1, port 0: '),  # kept for documentation by RFC 5737: nobody has it
        ('no such host', 0, 'cannot listen at no such host, port 0: '),
    ],
)
def test_an_address_where_nobody_can_listen(host, port, words):
    with pytest.raises(ValueError, match=words):
        listen(host, port)


def test_limits_are_above_0():
    with pytest.raises(ValueError, match='the limit of send seconds is 0; expected a number above 0'):
        Limits(send_seconds=0)
