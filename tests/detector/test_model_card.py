"""A model says what it is: class names in order, data set, settings, inside its own file."""

import random
import resource
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.proto import caffe_pb2
from fast_rcnn.config import cfg
from fast_rcnn.model_card import (
    ModelCard,
    ModelCardError,
    add_card,
    class_names,
    match_classes,
    note_other_settings,
    read_card,
)  # fmt: skip

CARD = ModelCard(('__background__', 'héron', 'cat'), 'folder', {'PIXEL_MEANS': [[[1.5, 2.0, 3.0]]]})
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / 'net.prototxt').write_text(NET)
    return caffe.Net(str(tmp_path / 'net.prototxt'), caffe.TEST)


@pytest.fixture(params=['.caffemodel', '.caffemodel.h5'])
def model(request, net, tmp_path):
    path = str(tmp_path / f'model{request.param}')
    (net.save_hdf5 if path.endswith('.h5') else net.save)(path)
    return path


def test_a_card_comes_back(model):
    assert read_card(model) is None
    add_card(model, CARD)
    assert read_card(model) == CARD


def test_the_weights_are_as_before(model, net):
    add_card(model, CARD)
    want = net.params['fc'][0].data.copy()
    net.params['fc'][0].data[...] = 0
    net.copy_from(model)
    assert np.array_equal(net.params['fc'][0].data, want)


def test_protobuf_passes_over_the_card_as_caffe_does(net, tmp_path):
    path = str(tmp_path / 'model.caffemodel')
    net.save(path)
    plain = caffe_pb2.NetParameter.FromString((tmp_path / 'model.caffemodel').read_bytes())
    add_card(path, CARD)
    read = caffe_pb2.NetParameter.FromString((tmp_path / 'model.caffemodel').read_bytes())
    assert [layer.name for layer in read.layer] == ['data', 'fc']
    assert read.layer[1].blobs[0].data == plain.layer[1].blobs[0].data


def test_thousands_of_names_have_room(model):
    many = ModelCard(tuple(f'class number {i}' for i in range(10000)))
    add_card(model, many)
    assert read_card(model).classes == many.classes


def test_where_the_disk_ends_the_file_is_what_it_was(model):
    before = Path(model).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limit[1]))
    try:
        with pytest.raises(OSError):
            add_card(model, CARD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert Path(model).read_bytes() == before


def test_of_damage_the_file_is_named_or_nothing_is_said(net, tmp_path):
    """Whatever is in the file: a card, none, or one clear error. 300 files with bits flipped, or cut short."""
    path = tmp_path / 'model.caffemodel'
    net.save(str(path))
    add_card(str(path), CARD)
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(300):
        data = bytearray(whole[: rng.randrange(1, len(whole) + 1)])
        for _ in range(rng.randrange(3)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            found = read_card(str(path))
        except ModelCardError as error:
            assert str(path) in str(error)
        else:
            assert found is None or len(found.classes) == 3


@pytest.mark.parametrize(
    'text', [b'[' * 100000, b'{}', b'{"form": 1}', b'\xff', b'{"form": "fast-rcnn-ohem model card", "classes": [1, 2]}']
)
def test_a_card_that_makes_no_sense_is_one_error(net, tmp_path, text):
    path = tmp_path / 'model.caffemodel'
    net.save(str(path))
    field = 50407 << 3 | 2
    varint = lambda n: bytes([n & 127 | 128, n >> 7 & 127 | 128, n >> 14])
    path.write_bytes(path.read_bytes() + varint(field) + varint(len(text)) + text)
    with pytest.raises(ModelCardError, match=r'model\.caffemodel: what the file says of its class names is damaged'):
        read_card(str(path))


class Set:
    name = 'mine'

    def __init__(self, *classes):
        self.classes = ('__background__', *classes)

    def set_class_order(self, classes):
        self.classes = tuple(classes)


def test_another_order_is_put_right_and_said(capsys):
    data = Set('cat', 'héron')
    match_classes(data, CARD, 'model')
    assert data.classes == CARD.classes
    assert capsys.readouterr().out == (
        'mine lists its classes in another order than model: those of the model are used, héron, cat\n'
    )


def test_the_same_order_and_no_card_change_nothing(capsys):
    data = Set('héron', 'cat')
    match_classes(data, CARD, 'model')
    match_classes(data, None, 'model')
    assert data.classes == CARD.classes and capsys.readouterr().out == ''


def test_other_names_stop_with_both_lists():
    with pytest.raises(ModelCardError) as caught:
        match_classes(Set('cat', 'dog'), CARD, 'model')
    assert str(caught.value) == (
        'model was trained on folder for other classes than those of mine. The model: héron, cat. '
        'The data set: cat, dog. Only the model has: héron. Only the data set has: dog'
    )


def test_a_list_of_names_is_held_against_the_card(capsys):
    assert class_names(CARD, 'model') == ['héron', 'cat']
    assert class_names(None, 'model', ['dog']) == ['dog']
    assert class_names(None, 'model') is None
    assert class_names(CARD, 'model', ['cat', 'héron']) == ['héron', 'cat']
    assert 'The names given are in another order than in model' in capsys.readouterr().out
    with pytest.raises(ModelCardError, match='model knows the classes héron, cat; the names given are others: dog'):
        class_names(CARD, 'model', ['dog'])


def test_settings_that_are_not_as_in_training_are_noted(capsys):
    card = ModelCard.of_training(['__background__', 'cat'], 'mine')
    note_other_settings(card, 'model')
    assert capsys.readouterr().out == ''
    cfg.TEST.SCALES = (77,)
    note_other_settings(card, 'model')
    assert capsys.readouterr().out == 'Note: model was trained where TEST.SCALES was [600]; it is [77] now\n'
