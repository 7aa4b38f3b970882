"""What writes files, on a full disk: the error names the file and the room, the earlier file stays, and no litter."""

import contextlib
import io
import re
import types
import warnings

import cv2
import h5py
import numpy as np
import pytest

import caffe
from caffe.__main__ import main as caffe_command
from caffe.files import model_file
from caffe.proto import caffe_pb2
from caffe_stand_ins.prototxt import prototxt_with_stand_ins
from detection_data.curves import draw_curves as draw_precision
from detection_data.imdb import imdb
from detection_data.proposals import Proposals, ProposalsError, write_proposals
from fast_rcnn.detections_file import load_detections, save_detections
from fast_rcnn.diagnosis import not_finite
from fast_rcnn.model_card import ModelCard, add_card
from fast_rcnn.record import TrainingRecord, read_record
from inspection.curves import draw_curves as draw_training
from inspection.error_pictures import draw_counts, draw_sheet
from inspection.report import write_report
from whole_file.picture import write_picture

LAYER = caffe_pb2.LayerParameter(name='ip', type='InnerProduct')
WEIGHT = np.zeros((100, 100), np.float32)
PHOTO = np.zeros((40, 60, 3), np.uint8)
CARD = ModelCard(('__background__', 'x' * 5000))
POOLING = """
    layer { name: "d" type: "Input" top: "d" input_param { shape { dim: [1, 1, 9, 9] } } }
    layer { name: "r" type: "Input" top: "r" input_param { shape { dim: [1, 5] } } }
    layer {
        name: "pool" type: "ROIPooling" bottom: "d" bottom: "r" top: "p"
        roi_pooling_param { pooled_w: 1 pooled_h: 1 }
    }
"""
OUTPUT = """
    layer { name: "in" type: "Input" top: "d" top: "l" input_param { shape { dim: [9, 500] } shape { dim: 9 } } }
    layer { name: "out" type: "HDF5Output" bottom: "d" bottom: "l" hdf5_output_param { file_name: "%s" } }
"""


class Pets(imdb):
    """Detections of it can be written."""

    def __init__(self):
        super().__init__('pets', ['cat'], ['a'])


def upgrade(path):
    old = path.parent.parent / 'old.prototxt'
    old.write_text(POOLING)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = caffe_command(['upgrade', str(old), str(path)])
    if status:
        raise OSError(said.getvalue())


def stand_ins(path):
    net = path.parent.parent / 'net.prototxt'
    net.write_text(POOLING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caffe, 'layer_type_list', lambda: ['Input'])
        prototxt_with_stand_ins(str(net), str(path.parent))


def sheet(path):
    photo = path.parent.parent / 'photo.png'
    cv2.imwrite(str(photo), PHOTO)
    mistake = {'image': str(photo), 'box': [1, 1, 9, 9], 'object_box': None, 'score': 0.5, 'class': 'cat', 'iou': 0.1}
    draw_sheet(str(path), [{**mistake, 'object_class': None}], 'background', 1, ['__background__', 'cat'])


ENTRY = {'iteration': 0, 'loss': {'a': 1.0}, 'images': 1, 'seconds': {'step': 1.0}, 'mined': {'rois': 1, 'fg': 1}}
ENTRY['memory'] = {'host_peak_mb': 1.0}
DETECTIONS = np.zeros((900, 5))
BOXES = [np.array([[0, 0, 9, 9]] * 900, np.float32)]

# The file's name -> what writes it, given its path.
WRITERS = {
    'net.caffemodel': lambda path: model_file.write_weights(path, 'n', [(LAYER, [(WEIGHT, None)])]),
    'net.caffemodel.h5': lambda path: model_file.write_weights_hdf5(path, [(LAYER, [(WEIGHT, None)], [True])]),
    'net.solverstate': lambda path: model_file.write_state(path, 1, 'n', [WEIGHT], 0),
    'net.solverstate.h5': lambda path: model_file.write_state(path, 1, 'n', [WEIGHT], 0),
    'mean.binaryproto': lambda path: model_file.write_blobproto(path, WEIGHT),
    'upgraded.prototxt': upgrade,
    'boxes.h5': lambda path: write_proposals(str(path), ['a'], BOXES, 'random'),
    'detections.npz': lambda path: save_detections(str(path), [[np.zeros((0, 5))]], ['x' * 9000], ['a']),
    'comp4_det_test_cat.txt': lambda path: Pets().write_voc_results([[[]], [DETECTIONS]], path.parent),
    'precision_recall.png': lambda path: draw_precision({'cat': (np.ones(2), np.ones(2), 1.0)}, str(path), 'title'),
    'training.png': lambda path: draw_training(str(path), {'run': [ENTRY]}, 1, {}),
    'errors.png': lambda path: draw_counts(str(path), {'cat': dict.fromkeys('abcde', 1)}, tuple('abcde')),
    'background.png': sheet,
    'index.html': lambda path: write_report(str(path), [], ['__background__', 'cat'], {}),
    'python_layers_net.prototxt': stand_ins,
    'picture.png': lambda path: write_picture(path, PHOTO),
    'picture.jpg': lambda path: write_picture(path, PHOTO),
}


@pytest.mark.parametrize('earlier', [True, False], ids=['anew', 'first'])
@pytest.mark.parametrize('name', WRITERS)
def test_a_file_that_appears_whole_or_not_at_all(name, earlier, disk):
    if earlier:
        (disk.path / name).write_bytes(b'earlier')
    disk.fill()
    expected = rf'No space left on device; .* needed in {disk.path}, where 0 bytes of disk space are free\. .*{name}'
    with pytest.raises(OSError, match=expected):
        WRITERS[name](disk.path / name)
    assert disk.files() == ({name: b'earlier'} if earlier else {})
    disk.free()
    WRITERS[name](disk.path / name)
    assert list(disk.files()) == [name] and disk.files()[name] != b'earlier'


def test_an_hdf5_output_keeps_the_rows_that_it_has(disk, tmp_path):
    (tmp_path / 'net.prototxt').write_text(OUTPUT % (disk.path / 'rows.h5'))
    net = caffe.Net(str(tmp_path / 'net.prototxt'), caffe.TEST)
    net.blobs['d'].data[...] = 1
    net.forward()
    before = disk.files()
    disk.fill()
    for _ in range(3):  # the space that is left in its last chunk, if any, is used
        try:
            net.forward()
        except OSError as failed:
            error = failed
    assert re.search(r'No space left on device; \d+ bytes are needed in .* What it held is unharmed', str(error))
    assert error.filename == str(disk.path / 'rows.h5') and disk.files() == before
    disk.free()
    net.blobs['d'].data[...] = 2
    net.forward()
    with h5py.File(disk.path / 'rows.h5') as file:
        assert file['data'][:, 0].tolist() == [1] * 9 + [2] * 9 and len(file['label']) == 18
    disk.fill()
    with pytest.raises(caffe.LayerError, match=r'out.*rows\.h5'):
        caffe.Net(str(tmp_path / 'net.prototxt'), caffe.TEST)


@pytest.mark.parametrize('name', ['net.caffemodel', 'net.caffemodel.h5'])
def test_a_model_without_room_for_its_card_is_as_it_was(name, disk):
    WRITERS[name](disk.path / name)
    before = disk.files()
    disk.fill()
    with pytest.raises(OSError, match=rf'\d+ bytes are needed in {disk.path}, .*{name}'):
        add_card(str(disk.path / name), CARD)
    assert disk.files() == before


class DataLayer:
    def forward(self, bottom, top):
        pass


class Solver:
    def __init__(self):
        self.iter, self.net = 0, object()


@contextlib.contextmanager
def kept_warnings(said):
    """Adds the texts of warnings to `said`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        yield
    said += [str(warning.message) for warning in caught]


def test_training_goes_on_without_its_record_which_is_whole_again_when_there_is_room(disk):
    path = str(disk.path / 'record.jsonl')
    solver, said = Solver(), []
    record = TrainingRecord(path, solver, DataLayer())

    def iterate():
        record.start()
        with kept_warnings(said):
            record.finish({'loss': 1.0})
        solver.iter += 1

    iterate()
    disk.fill()
    while not said:  # what is left of its last page
        iterate()
        assert solver.iter < 1000
    iterate()
    assert len(said) == 1, 'it is said once'
    assert re.search(rf'No space left on device; \d+ bytes are needed .*{path}.*Training goes on', said[0])
    assert len(read_record(path)) == solver.iter - 2
    disk.free()
    iterate()
    record.close()
    assert [line['iteration'] for line in read_record(path)] == list(range(solver.iter))


def test_a_record_that_never_has_room_again_says_what_it_lacks(disk):
    record, said = TrainingRecord(str(disk.path / 'record.jsonl'), Solver(), DataLayer()), []
    disk.fill()
    with kept_warnings(said):
        for _ in range(2):
            record.start()
            record.finish({'loss': 1.0})
        record.close()
    assert len(said) == 2 and 'The record lacks its last 2 iterations' in said[1]


def test_a_diagnosis_is_said_though_its_pictures_have_no_room(disk):
    net = types.SimpleNamespace(blobs={'fc': types.SimpleNamespace(data=np.full((1, 1), np.nan))})
    disk.fill()
    said = not_finite(net, ['a.jpg'], str(disk.path / 'dump'), weights_are_old=False)
    assert 'the first blob that is not finite is fc' in said
    assert re.search(r'More would be in .*dump, but .*No space left on device; \d+ bytes are needed', said)


@pytest.mark.parametrize(('name', 'read'), [('boxes.h5', Proposals), ('detections.npz', load_detections)])
def test_a_file_that_may_not_be_read_is_not_called_damaged(name, read, tmp_path, as_nobody):
    WRITERS[name](tmp_path / name)
    read(str(tmp_path / name))
    (tmp_path / name).chmod(0)
    with as_nobody(), pytest.raises((ProposalsError, PermissionError), match=rf'{name}: this user may not read it'):
        read(str(tmp_path / name))
