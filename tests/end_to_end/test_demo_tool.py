"""tools/demo.py on photographs, folders, patterns, lists, videos; what it writes is read back by those it is for.

The net is the demo's with an RPN, on random weights: what it finds means nothing, but is always the same.
"""

import copy
import csv
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter

import cv2
import numpy as np
import pytest
from commands import ROOT, SMALL, run

import caffe
from detection_data.image_file import ImageError
from detection_data.pascal_voc import read_annotation
from detection_data.video import Frames, video_written
from fast_rcnn import Detections, Detector
from fast_rcnn.config import cfg
from fast_rcnn.detection_formats import coco_results, voc_xml
from fast_rcnn.model_card import ModelCard, add_card
from inspection.detection_files import DetectionFiles, Seen, file_names
from projects.formats import voc
from projects.photographs import ImageFolder

CLASSES = ('button', 'ladybird', 'leaf', 'starfish')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A file that brings its net, classes and settings along."""
    caffe.set_mode_cpu()
    path = tmp_path_factory.mktemp('weights') / 'rpn.caffemodel'
    prototxt = SMALL / 'faster_rcnn_end2end_ohem' / 'test.prototxt'
    net = caffe.Net(str(prototxt), caffe.TEST)
    random = np.random.default_rng(1)
    for name, blobs in net.params.items():
        scale = 0.01 if name.startswith(('rpn_bbox', 'bbox')) else 0.1
        blobs[0].data[...] = random.normal(0, scale, blobs[0].data.shape)
    net.save(str(path))
    settings = {'TEST': {'HAS_RPN': True, 'SCALES': [96], 'MAX_SIZE': 200, 'RPN_POST_NMS_TOP_N': 20}}
    add_card(str(path), ModelCard(('__background__', *CLASSES), 'demo', settings, net=prototxt.read_text()))
    return path


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    """Two photographs, a broken one, a video of 6 frames at 10 a second, a broken one."""
    folder = tmp_path_factory.mktemp('inputs') / 'in'
    folder.mkdir()
    random = np.random.default_rng(0)
    images = [cv2.resize(random.integers(0, 255, (6, 8, 3), np.uint8), (160, 121)) for _ in range(6)]
    for name, image in zip(('a.jpg', 'b & c.png'), images, strict=False):
        cv2.imwrite(str(folder / name), image)
    (folder / 'broken.jpg').write_bytes(b'no photograph')
    writer = cv2.VideoWriter(str(folder / 'film.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 10, (160, 120))
    for image in images:
        writer.write(image[:120])
    writer.release()
    (folder / 'no film.mp4').write_bytes(b'no video')
    (folder / 'notes.md').write_text('neither')
    return folder


@pytest.fixture
def demo(weights, tmp_path, monkeypatch, capfd):
    """Calls the tool's main in this process, which spares it importing torch; returns what it said on stderr."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import demo as tool

    before = copy.deepcopy(dict(cfg))

    def call(*words, error=None, status=0):
        flags = ['--gpu', 'cpu', '--net', weights, '--out', tmp_path / 'out', *words]
        monkeypatch.setattr(sys, 'argv', ['demo.py', *map(str, flags)])
        if error is None:
            assert tool.main() == status
        else:
            with pytest.raises((ValueError, OSError), match=error):
                tool.main()
        return capfd.readouterr().err

    yield call
    cfg.update(before)


def test_everything_of_a_folder(inputs, tmp_path, weights):
    """Broken files are left out, named and counted; the exit status tells; what is written is read by others."""
    kinds = ['pictures', 'video', 'json', 'jsonl', 'csv', 'coco', 'voc']
    done = run('tools/demo.py', '--gpu', 'cpu', '--net', weights, '--out', tmp_path / 'out', inputs,
               '--write', *kinds, '--det_thresh', 0.2, status=1)  # fmt: skip
    assert f'left out: {inputs}/broken.jpg: cannot be read as an image' in done.stderr
    assert f'left out: {inputs}/no film.mp4: cannot be read as a video' in done.stderr
    assert '2 of 5 photographs and videos were left out' in done.stderr
    assert 'detections in 8 images, ' in done.stdout and 'images/s' in done.stdout
    out = tmp_path / 'out'

    names = [('a.jpg', None), ('b & c.png', None), *(('film.avi', k) for k in range(6))]
    lines = [json.loads(line) for line in (out / 'detections.jsonl').read_text().splitlines()]
    assert [(line['image'], line.get('frame')) for line in lines] == [(str(inputs / n), k) for n, k in names]
    assert (lines[0]['width'], lines[0]['height'], lines[-1]['seconds']) == (160, 121, 0.5)
    found = json.loads((out / 'detections.json').read_text())
    assert [found[f'{inputs}/{n}' + ('' if k is None else f'#{k}')] for n, k in names] == [
        line['detections'] for line in lines
    ]
    number = sum(len(line['detections']) for line in lines)
    assert number > 20 and f'{number} detections' in done.stdout

    rows = list(csv.DictReader((out / 'detections.csv').open(newline='')))
    assert len(rows) == number
    first = lines[0]['detections'][0]
    assert (rows[0]['image'], rows[0]['frame'], rows[0]['class']) == (f'{inputs}/a.jpg', '', first['class'])
    assert [float(rows[0][k]) for k in ('score', 'x1', 'y1', 'x2', 'y2')] == [first['score'], *first['box']]
    assert rows[-1]['frame'] == '5'

    check_coco(out, lines)
    check_voc(out, inputs, lines)

    assert cv2.imread(str(out / 'a.png')) is not None
    frames = [frame for _, frame in Frames(str(out / 'film.mp4'))]
    picture = cv2.imread(str(out / 'film_000003.png'))
    assert len(frames) == 6 and frames[3].shape == picture.shape
    assert np.abs(frames[3].astype(int) - picture).mean() < 12  # a lossy copy of that very picture
    assert np.abs(frames[3].astype(int) - picture).mean() < np.abs(frames[0].astype(int) - picture).mean()
    assert round(Frames(str(out / 'film.mp4')).fps) == 10

    detector = Detector.load(weights, thresh=0.2)
    assert [box.name for box in detector(inputs / 'a.jpg')] == [d['class'] for d in lines[0]['detections']]


def check_coco(out, lines):
    """pycocotools takes the results for those of the images beside them."""
    from pycocotools.coco import COCO

    truth = COCO(str(out / 'coco_images.json'))
    results = truth.loadRes(str(out / 'coco_results.json'))
    assert [each['file_name'] for each in truth.dataset['images']][:3] == ['a.jpg', 'b & c.png', 'film_000000.png']
    for image, line in zip(truth.dataset['images'], lines, strict=True):
        entries = results.loadAnns(results.getAnnIds(imgIds=[image['id']]))
        assert [truth.cats[e['category_id']]['name'] for e in entries] == [d['class'] for d in line['detections']]
        for entry, d in zip(entries, line['detections'], strict=True):
            x, y, w, h = entry['bbox']  # the last pixel is within
            np.testing.assert_allclose([x, y, x + w - 1, y + h - 1], d['box'], atol=0.06)


def check_voc(out, inputs, lines):
    """Both of our readers take the annotations; elements are those of the development kit, in its order."""
    stems = ['a', 'b & c', *(f'film_{k:06d}' for k in range(6))]
    assert sorted(p.stem for p in (out / 'Annotations').iterdir()) == sorted(stems)
    number = {name: k for k, name in enumerate(CLASSES, start=1)}
    for stem, line in zip(stems, lines, strict=True):
        path = out / 'Annotations' / f'{stem}.xml'
        read = read_annotation(str(path), number)
        assert [CLASSES[k - 1] for k in read['gt_classes']] == [d['class'] for d in line['detections']]
        boxes = np.array([d['box'] for d in line['detections']]).reshape(-1, 4)
        np.testing.assert_allclose(read['boxes'], boxes, atol=1.01)  # whole pixels, two at least
        root = ElementTree.parse(path).getroot()
        assert [each.tag for each in root][:5] == ['folder', 'filename', 'source', 'size', 'segmented']
        for each in root.iter('object'):
            assert [part.tag for part in each] == ['name', 'pose', 'truncated', 'difficult', 'bndbox']
            assert [part.tag for part in each.find('bndbox')] == ['xmin', 'ymin', 'xmax', 'ymax']
        said = Counter()
        images = ImageFolder(str(inputs if line.get('frame') is None else out / 'JPEGImages'))
        (photograph,) = voc.read(voc.files(str(path.parent))[sorted(stems).index(stem) :][:1], '', images, said)
        assert len(photograph.boxes) == len(boxes) and not said  # nothing had to be put right
    assert ElementTree.parse(out / 'Annotations' / 'b & c.xml').getroot().findtext('filename') == 'b & c.png'


def test_patterns_lists_and_parts_of_videos(demo, inputs, tmp_path):
    listed = inputs.parent / 'some.txt'
    listed.write_text('in/b & c.png\n\nin/a.*\n')
    said = demo('--images', listed, inputs / 'film.avi', '--every', 2, '--frames', 2, '--write', 'jsonl', 'video')
    lines = [json.loads(line) for line in (tmp_path / 'out' / 'detections.jsonl').read_text().splitlines()]
    got = [(line['image'], line.get('frame')) for line in lines]
    assert got == [
        (f'{inputs}/b & c.png', None),
        (f'{inputs}/a.jpg', None),
        *((f'{inputs}/film.avi', k) for k in (0, 2)),
    ]
    assert round(Frames(str(tmp_path / 'out' / 'film.mp4')).fps) == 5  # every second of 10 a second
    assert 'left out' not in said
    demo(inputs / '[ab]*.[jp]*g', '--write', 'jsonl', status=1)  # broken.jpg matches, too
    assert len((tmp_path / 'out' / 'detections.jsonl').read_text().splitlines()) == 2  # anew, not added


def test_photographs_that_are_cut_off_are_named(demo, inputs, tmp_path):
    for name in ('cut.jpg', 'cut too.jpg'):
        (tmp_path / name).write_bytes((inputs / 'a.jpg').read_bytes()[:-300])
    said = demo(inputs / 'a.jpg', tmp_path / 'cut.jpg', tmp_path / 'cut too.jpg', '--write', 'json').splitlines()
    said = [line.partition(' (')[0] for line in said if line.startswith('damaged')]
    assert said == [f'damaged, partly grey: {tmp_path}/{name}' for name in ('cut.jpg', 'cut too.jpg')]


def test_the_numbers_of_another_annotation_file(demo, inputs, tmp_path):
    ids = tmp_path / 'ids.json'
    categories = [{'id': 10 * k, 'name': name} for k, name in enumerate(CLASSES, start=1)]
    ids.write_text(json.dumps({'images': [{'id': 77, 'file_name': 'x/a.jpg'}], 'categories': categories}))
    demo(inputs / 'a.jpg', '--write', 'coco', '--coco_ids', ids, '--det_thresh', 0.2)
    results = json.loads((tmp_path / 'out' / 'coco_results.json').read_text())
    assert {each['image_id'] for each in results} == {77}
    assert {each['category_id'] for each in results} <= {10, 20, 30, 40}
    demo(
        inputs / 'b & c.png',
        '--write',
        'coco',
        '--coco_ids',
        ids,
        error=r'ids.json has no image .*/b & c\.png \(--coco',
    )
    ids.write_text(json.dumps({'images': [], 'categories': categories[:3]}))
    demo(inputs / 'a.jpg', '--coco_ids', ids, error='has no category starfish; it has: button, ladybird, leaf')
    ids.write_text('[]')
    demo(inputs / 'a.jpg', '--coco_ids', ids, error='not a COCO annotation file')


def test_annotations_corrected_by_hand_stay(demo, inputs, tmp_path):
    demo(inputs / 'a.jpg', '--write', 'voc')
    (tmp_path / 'out' / 'Annotations' / 'a.xml').write_text('corrected')
    demo(inputs / 'a.jpg', '--write', 'voc', error='may have been corrected by hand')
    assert (tmp_path / 'out' / 'Annotations' / 'a.xml').read_text() == 'corrected'


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['a.jpg', '--write', 'xml'], '--write xml: expected of pictures, video, json, jsonl, csv, coco, voc'),
        (['a.jpg', '--write', 'video'], '--write video: photographs make no video'),
        (['*.tif'], 'no image is called'),
        (['nothing.jpg'], 'there is no file'),
        (['film.avi', '--every', 0], '--every is 0'),
    ],
)
def test_bad_input(demo, inputs, words, said):
    paths = [inputs / word if isinstance(word, str) and '.' in word else word for word in words]
    demo(*paths, error=said)


def test_photographs_behind_write_are_told_from_kinds(demo, inputs, monkeypatch):
    import demo as tool

    monkeypatch.setattr(tool, 'configure', lambda args: pytest.fail('kinds are looked at before settings are printed'))
    demo('--write', 'voc', 'pictures', inputs, error=rf'--write took {inputs}: .* Put photographs before --write')
    demo('nothing.jpg', '--write', 'xml', error='--write xml: expected of')


def test_the_last_line_says_what_is_where(demo, inputs, tmp_path):
    import demo as tool

    assert tool._summary(7, 2, 1, ['json', 'coco', 'voc', 'pictures'], 'OUT') == (
        '7 detections in 2 images, 2.00 images/s: detections.json, coco, voc and pictures are in OUT'
    )
    assert tool._summary(7, 2, 1, ['json'], 'OUT').endswith(': detections.json is in OUT')
    assert tool._summary(0, 0, 1, ['json'], 'OUT') == 'No image was looked at'
    assert '\n1 of 1 photograph was left out' in demo(inputs / 'broken.jpg', '--write', 'json', status=1)


def test_a_camera_that_is_not_there(demo):
    assert 'left out: camera_73: there is no camera 73 that can be read' in demo('73', status=1)


def found_in(size, rows):
    """Detections of the first class."""
    return Detections([np.array(rows, np.float32).reshape(-1, 5)], ('a',), size, None)


def test_ctrl_c_keeps_what_was_found_and_an_error_leaves_no_half_video(tmp_path):
    frame = np.zeros((40, 60, 3), np.uint8)
    for error, there in ((KeyboardInterrupt, True), (OSError, False)):
        out = tmp_path / error.__name__
        with pytest.raises(error), DetectionFiles(str(out), ['video', 'json', 'jsonl'], ('a',)) as files:
            for k in range(3):
                files.add(Seen('film.avi', 'film', k, 10.0, k / 10, frame), found_in((60, 40), [[1, 2, 30, 20, 0.9]]))
            raise error
        assert (out / 'film.mp4').exists() == (out / 'detections.json').exists() == there
        assert len((out / 'detections.jsonl').read_text().splitlines()) == 3
        assert sorted(p.name for p in out.iterdir() if p.name.startswith('.')) == []
    assert len(list(Frames(str(tmp_path / 'KeyboardInterrupt' / 'film.mp4')))) == 3


def test_boxes_in_the_conventions_of_others():
    """COCO counts from 0 and its widths have the last pixel; VOC counts from 1. No corner leaves the image."""
    found = found_in((60, 40), [[10, 20, 29.6, 39, 0.75]])
    assert coco_results(found, 7, {'a': 3}) == [
        {'image_id': 7, 'category_id': 3, 'bbox': [10.0, 20.0, 20.6, 20.0], 'score': 0.75}
    ]
    box = ElementTree.fromstring(voc_xml(found, 'x.jpg')).find('object/bndbox')
    assert [int(part.text) for part in box] == [11, 21, 31, 40]
    one_pixel = found_in((60, 40), [[59.2, 3, 59.4, 3, 0.75]])
    box = ElementTree.fromstring(voc_xml(one_pixel, 'x.jpg')).find('object/bndbox')
    assert [int(part.text) for part in box] == [59, 4, 60, 5]  # no tool takes one of a single pixel
    strange = Detections([np.zeros((1, 5), np.float32)], ('<&>\x00"\ud800',), (9, 9), None)
    assert ElementTree.fromstring(voc_xml(strange, 'ä<.jpg')).findtext('object/name') == '<&>?"?'


def test_a_video_cut_off_says_so(inputs, tmp_path):
    whole = tmp_path / 'whole.avi'
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*'MJPG'), 10, (160, 120))
    for k in range(60):
        writer.write(np.full((120, 160, 3), 4 * k, np.uint8))
    writer.release()
    content = whole.read_bytes()
    (tmp_path / 'cut.avi').write_bytes(content[: len(content) // 2])
    frames = []
    with pytest.raises(ImageError, match=r'cut\.avi: cannot be read (beyond \d+ frames|as a video)'):
        frames += [number for number, _ in Frames(str(tmp_path / 'cut.avi'))]
    assert len(list(Frames(str(whole)))) == 60


def test_a_video_s_pictures_are_of_one_size(tmp_path):
    with (
        pytest.raises(ValueError, match=r'v\.mp4: a picture of 64 x 40 pixels'),
        video_written(tmp_path / 'v.mp4', 5) as video,
    ):
        video.add(np.zeros((40, 60, 3), np.uint8))
        video.add(np.zeros((40, 64, 3), np.uint8))
    assert not (tmp_path / 'v.mp4').exists()


def test_images_of_one_name_in_several_folders(tmp_path):
    (tmp_path / 'x').mkdir()
    paths = [str(tmp_path / name) for name in ('a.jpg', 'x/a.jpg', 'x_a.jpg', 'b.png')]
    assert list(file_names(paths).values()) == ['a.jpg', 'x_a.jpg', 'x_a', 'b']
