"""The runner of the paper's tables: what rows come to as settings, which runs are the same, what is
printed."""

from dataclasses import replace

import cost
import pytest
import reproduce
from runs import ROOT, Run, without_layers
from tables import TABLES

from caffe.proto import caffe_pb2
from fast_rcnn.config import cfg_from_dict

ROWS = {number: {row.name: row for row in table.rows} for number, table in TABLES.items()}


@pytest.mark.parametrize('on', ['pascal_voc', 'demo'])
@pytest.mark.parametrize('number', [1, 3, 4, 6, 7, 8])
def test_every_row_comes_to_valid_settings(number, on):
    assert len(ROWS[number]) == len(TABLES[number].rows)  # names are unique
    for row in TABLES[number].rows:
        run = Run(row, on, seed=1)
        cfg_from_dict(run.settings())
        settings = run.settings().get('TRAIN', {})
        assert settings.get('BATCH_SIZE', 128) % settings.get('IMS_PER_BATCH', 2) == 0
        assert run.solver().base_lr > 0 and (ROOT / run.solver().train_net).is_file() and run.test_net.is_file()


def test_changes_are_laid_over_the_place_s_settings():
    row = ROWS[1]['frcn-n1-bg_lo-0']
    train = Run(row, 'demo', seed=7).settings()['TRAIN']
    assert (train['IMS_PER_BATCH'], train['BATCH_SIZE'], train['BG_THRESH_LO'], train['SCALES']) == (
        1,
        128,
        0,
        [192],
    )
    assert Run(row, 'demo', seed=7).settings()['RNG_SEED'] == 7
    # a place's own form of a change goes before the general one
    scales = [Run(ROWS[6]['ohem-m'], on, 1).settings()['TRAIN']['SCALES'][0] for on in ('pascal_voc', 'demo')]
    assert scales == [480, 154]


def test_the_solver_keeps_the_shape_of_its_schedule():
    solver = Run(ROWS[1]['all-rois'], 'demo', 1, iters=140).solver()  # of 1400, where the step is at 1000
    assert (solver.stepsize, solver.iter_size) == (100, 1)
    assert solver.base_lr == pytest.approx(0.03)
    assert Run(ROWS[1]['ohem'], 'pascal_voc', 1).solver().iter_size == 2


def test_methods_with_an_rpn_have_a_schedule_of_their_own():
    """py-faster-rcnn trains for 70000 iterations, the rate falls after 50000; Fast R-CNN for 40000 and 30000."""
    faster, fast = (Run(ROWS[7][name], 'pascal_voc', 1) for name in ('faster', 'frcn'))
    assert (faster.iterations, faster.solver().stepsize) == (70000, 50000)
    assert (fast.iterations, fast.solver().stepsize) == (40000, 30000)
    assert Run(ROWS[7]['faster-ohem'], 'pascal_voc', 1, iters=7).solver().stepsize == 5


def test_the_stages_of_an_adversary():
    """10000, 25000 and 40000 iterations, as released; the rate falls after 20000 of stage 2, and after 30000 else."""
    row = ROWS[8]['adv']
    stages = [Run(stage, 'pascal_voc', 1) for stage in (row.start, row.adversary, row)]
    assert [run.iterations for run in stages] == [10000, 25000, 40000]
    assert [run.solver().stepsize for run in stages] == [30000, 20000, 30000]
    assert [run.solver().iter_size for run in stages] == [2, 8, 2]
    assert Run(row.adversary, 'demo', 1, iters=8).iterations == 5
    assert Run(row, 'demo', 1).test_net.parent.name == 'fast_rcnn'


def test_an_adversary_s_run_depends_on_its_stages():
    row = ROWS[8]['adv']

    def folder(row):
        return Run(row, 'demo', 1).folder().name.split('_')[-1]

    others = [
        replace(row, start=replace(row.start, lr=2)),
        replace(row, adversary=replace(row.adversary, lr=2)),
        replace(ROWS[8]['frcn-stage-1'], start_without=()),
        ROWS[8]['frcn-stage-1'],
    ]
    assert len({folder(each) for each in (row, *others)}) == 5
    assert folder(row) == folder(replace(row, name='x', title='y'))


def test_rows_that_train_alike_share_the_run_whatever_the_table():
    def folder(number, name, **changes):
        return Run(replace(ROWS[number][name], **changes), 'demo', 1, iters=3).folder().name.split('_')[-1]

    assert (
        folder(1, 'ohem')
        == folder(3, '07-ohem')
        == folder(6, 'ohem')
        == folder(6, 'ohem-b')
        == folder(1, 'ohem-one-pass')
    )
    assert folder(6, 'ohem-m') == folder(6, 'ohem-m-nearest') != folder(6, 'ohem')
    differing = [
        folder(1, 'ohem'),
        folder(1, 'ohem', lr=2),
        folder(1, 'ohem', iter_size=3),
        folder(1, 'ohem-cls-loss'),
    ]
    assert len(set(differing)) == 4


def test_a_place_without_the_training_set_says_so():
    with pytest.raises(ValueError, match='row coco-ohem cannot be run on pascal_voc: its training set is coco'):
        Run(ROWS[5]['coco-ohem'], 'pascal_voc', 1).folder()


def test_where_one_net_stands_in_for_two_each_row_stands_once():
    names = [row.name for row in reproduce.chosen_rows(TABLES[1], 'demo', [], paper_only=True)]
    assert names == [
        'frcn',
        'frcn-bg_lo-0',
        'frcn-n1',
        'frcn-n1-bg_lo-0',
        'all-rois-n1',
        'all-rois',
        'ohem-n1',
        'ohem',
    ]
    assert len(reproduce.chosen_rows(TABLES[1], 'pascal_voc', [], paper_only=True)) == 13
    with pytest.raises(ValueError, match='there is no m-ohem on demo'):
        reproduce.chosen_rows(TABLES[1], 'demo', ['m-ohem'], False)


def test_published_figures():
    """As the paper's and its released code's README give them."""
    given = {row.name: (row.paper, row.released) for number in (3, 4) for row in TABLES[number].rows}
    assert given == {
        '07-frcn': ('66.9', '67.6'), '07-ohem': ('69.9', '71.5'),
        '07-frcn-m-b': ('72.4', ''), '07-ohem-m-b': ('75.1', ''),
        '07+12-frcn': ('70.0', ''), '07+12-ohem': ('74.6', '75.5'), '07+12-ohem-m-b': ('78.9', ''),
        '12-frcn': ('65.7', ''), '12-ohem': ('69.8', ''), '12-ohem-m-b': ('72.9', ''),
        '07++12-frcn': ('68.4', ''), '07++12-ohem': ('71.9', ''), '07++12-ohem-m-b': ('76.3', ''),
        '07++12-coco-ohem-m-b': ('80.1', ''),
    }  # fmt: skip
    assert (ROWS[1]['m-ohem'].paper, ROWS[1]['m-ohem'].released) == ('62.0', '62.8')


@pytest.mark.parametrize(
    ('records', 'shown'),
    [
        ([{'score': 78.94}], '78.9'),
        ([{'score': 78.0}, {'score': 80.0}], '79.0 ± 1.4 (2 seeds)'),  # deviations 1 and 1, over n - 1
        ([{}], ''),
        ([{'failed': 'train_net.py: error: no | way [log.txt]'}], 'failed: train_net.py: error: no / way'),
        ([{'score': None}], 'to be scored by the server'),
    ],
)
def test_cells(records, shown):
    assert reproduce.cell(records) == shown


def test_ap_by_class_run_by_run():
    def run(seed, cat, dog):
        ap = {'cat': {'ap': cat}, 'dog': {'ap': dog}}
        return {'seed': seed, 'results': {'mAP': (cat + dog) / 2, 'classes': ap}}

    rows = [ROWS[6]['frcn'], ROWS[6]['ohem']]
    records = {'frcn': [{'seed': 1, 'failed': 'no'}], 'ohem': [run(1, 0.5, 0.7), run(2, 0.6, 0.7)]}
    assert reproduce.by_class(rows, records).splitlines()[0] == '| row | seed | cat | dog | mAP |'
    assert reproduce.by_class(rows, records).splitlines()[2:] == [
        '| OHEM | 1 | 50.0 | 70.0 | 60.0 |',
        '| OHEM | 2 | 60.0 | 70.0 | 65.0 |',
        '| **OHEM** | mean ± std | 55.0 ± 7.1 | 70.0 ± 0.0 | 62.5 ± 3.5 |',
    ]


def test_what_a_net_starts_from_has_no_last_layers(tmp_path):
    net = caffe_pb2.NetParameter(name='n')
    for name in ('fc7', 'cls_score', 'bbox_pred'):
        net.layer.add(name=name, type='InnerProduct').blobs.add().data.append(1)
    (tmp_path / 'a.caffemodel').write_bytes(net.SerializeToString())
    path = without_layers(tmp_path / 'a.caffemodel', ('cls_score', 'bbox_pred'), tmp_path / 'b.caffemodel')
    assert [layer.name for layer in caffe_pb2.NetParameter.FromString(path.read_bytes()).layer] == ['fc7']


def test_the_cost_table_has_both_networks():
    assert set(cost.rows_of('demo')) == {
        f'demo-{r}' for r in ('frcn', 'all-rois-n1', 'all-rois', 'ohem', 'ohem-one-pass')
    }
    networks = {name.split('-')[0]: network for name, (_, network) in cost.rows_of('pascal_voc').items()}
    assert networks == {'m': 'VGG_CNN_M_1024', 'vgg16': 'VGG16'}
