"""PRECISION: the setting, and what it asks of Caffe."""

import pytest

import caffe
from fast_rcnn.config import ConfigError, cfg, cfg_from_list
from fast_rcnn.precision import applied_precision, apply_precision, note_ranking

MODELS = f'{cfg.ROOT_DIR}/models'


@pytest.fixture(autouse=True)
def float32_afterwards():
    yield
    caffe.set_precision('fp32')


@pytest.mark.parametrize('choice', ['tf32', 'bf16', 'bf16-ranking'])
def test_the_setting_is_what_caffe_computes_in(choice):
    cfg_from_list(['PRECISION', choice])
    apply_precision()
    assert caffe.get_precision() == choice


def test_by_default_it_stays_as_the_process_has_it():
    caffe.set_precision('bf16')
    apply_precision()
    assert caffe.get_precision() == 'bf16'


def test_there_are_as_many_choices_as_caffe_has():
    with pytest.raises(ConfigError) as refused:
        cfg_from_list(['PRECISION', 'bfloat16'])
    with pytest.raises(ValueError, match='the precision is one of') as asked:
        caffe.set_precision('bfloat16')
    choices = str(asked.value).partition('one of ')[2].partition(';')[0]
    assert str(refused.value) == f"settings: PRECISION is one of {choices}; got 'bfloat16'"


def test_within_a_with_alone_as_trainers_do():
    cfg_from_list(['PRECISION', 'bf16'])
    with applied_precision():
        assert caffe.get_precision() == 'bf16'
    assert caffe.get_precision() == 'fp32'


def test_another_caffe_computes_in_fp32_alone(monkeypatch):
    monkeypatch.delattr(caffe, 'set_precision')
    apply_precision()
    cfg_from_list(['PRECISION', 'bf16'])
    with pytest.raises(ConfigError, match='PRECISION is bf16: the Caffe that is imported computes in fp32 alone'):
        apply_precision()


def ranking(net):
    layers = caffe.Net(f'{MODELS}/{net}/train.prototxt', caffe.TRAIN).layer_dict
    return {name for name, layer in layers.items() if layer.only_ranks and layer.blobs}


def test_the_read_only_network_of_ohem_only_ranks():
    assert ranking('pascal_voc/VGG_CNN_M_1024/fast_rcnn_ohem') == {
        'fc6_readonly', 'fc7_readonly', 'cls_score_readonly', 'bbox_pred_readonly',
    }  # fmt: skip
    cfg.TRAIN.HAS_RPN = cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED = True
    found = ranking('demo/small/faster_rcnn_end2end_ohem')
    assert found == {'fc5_readonly', 'cls_score_readonly', 'bbox_pred_readonly'}


def test_scores_that_an_adversary_is_taught_by_do_not_only_rank():
    """The mining hands them on, as `prop_before`; box regressions alone only rank."""
    assert ranking('demo/small/fast_rcnn_ohem_adv') == {'bbox_pred_readonly'}


def test_a_net_that_does_not_mine_ranks_nothing(capsys):
    file = f'{MODELS}/demo/small/fast_rcnn/train.prototxt'
    net = caffe.Net(file, caffe.TRAIN)
    assert not any(layer.only_ranks for layer in net.layers)
    note_ranking(net.layers, file)
    assert capsys.readouterr().out == ''
    cfg_from_list(['PRECISION', 'bf16-ranking'])
    note_ranking(net.layers, file)
    assert capsys.readouterr().out.startswith(
        f'Note: PRECISION is bf16-ranking, and no layer of the net of {file} only'
    )
    mining = caffe.Net(f'{MODELS}/demo/small/fast_rcnn_ohem/train.prototxt', caffe.TRAIN)
    note_ranking(mining.layers, file)
    assert capsys.readouterr().out == ''
