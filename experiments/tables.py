"""The rows of the paper's tables: what each trains and tests, and the figures published for it.

Shrivastava, Gupta, Girshick: Training Region-based Object Detectors with Online Hard Example Mining, CVPR
2016. A published figure stands here only where it is certain; elsewhere the text is empty. Rows that the
paper does not have are marked `beyond`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

VGG16, VGG_M = 'VGG16', 'VGG_CNN_M_1024'
FRCN, OHEM = 'fast_rcnn', 'fast_rcnn_ohem'
FASTER, FASTER_OHEM = 'faster_rcnn_end2end', 'faster_rcnn_end2end_ohem'
# A-Fast-RCNN: stages 1, 2 and 3, and stage 3 with OHEM
STD, ADV_PRETRAIN, ADV, OHEM_ADV = 'fast_rcnn_std', 'fast_rcnn_adv_pretrain', 'fast_rcnn_adv', 'fast_rcnn_ohem_adv'


@dataclass(frozen=True)
class Row:
    """One row: a net trained in one way and tested in one way."""

    name: str  # for --row; unique in its table
    title: str  # as printed
    network: str = VGG16
    method: str = FRCN  # the folder of the network's prototxts
    data: str = '07'  # a key of Place.train
    # Files of experiments/cfgs/changes (without .yml), laid over the place's cfg in this order
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    lr: float = 1.0  # times the base_lr of the method's solver
    iter_size: int | None = None  # in place of the solver's
    share: float = 1.0  # of the place's iterations
    start: Row | None = None  # whose trained net training starts from
    start_without: tuple[str, ...] = ('cls_score', 'bbox_pred')  # layers that are not taken over
    adversary: Row | None = None  # whose trained adversary is joined to that, as the net's init_weights.json says
    paper: str = ''  # the published figure: the paper's, ...
    released: str = ''  # ... and that of its released code
    beyond: bool = False  # not in the paper


@dataclass(frozen=True)
class Place:
    """Where a table is run: data sets, nets and sizes. Dictionaries without a comment are by Row.data."""

    models: str  # a folder with a folder for each network
    networks: dict[str, str]  # by Row.network: the name of that folder, '' if there is one net only
    cfgs: dict[str, str]  # by Row.method: experiments/cfgs/<...>.yml
    train: dict[str, str]  # imdb
    test: dict[str, str]  # imdb
    iters: dict[str, int]  # for which the solvers' stepsize is meant; methods with an RPN have their own:
    rpn_iters: int = 0
    prefix: str = ''  # of this place's own form of a change: changes/<prefix><change>.yml
    weights: str | None = None  # what training starts from, {network} filled in
    num_dets: int = 100  # of tools/test_net.py
    det_thresh: float = 0.05
    snapshots: int = 0  # so many in a run; 0: as the cfg says
    note: str = ''  # printed above a table


DATA = ('07', '07+12', '12', '07++12', 'coco')


def _everywhere(value) -> dict:
    return dict.fromkeys(DATA, value)


PLACES = {
    'pascal_voc': Place(
        models='models/pascal_voc',
        networks={VGG16: VGG16, VGG_M: VGG_M},
        cfgs={
            FRCN: 'fast_rcnn',
            OHEM: 'fast_rcnn_ohem',
            FASTER: FASTER,
            FASTER_OHEM: FASTER_OHEM,
            STD: 'fast_rcnn_adv',
            ADV_PRETRAIN: 'fast_rcnn_adv_pretrain',
            ADV: 'fast_rcnn_adv',
            OHEM_ADV: 'fast_rcnn_ohem_adv',
        },
        train={
            '07': 'voc_2007_trainval',
            '07+12': 'voc_2007_trainval+voc_2012_trainval',
            '12': 'voc_2012_trainval',
            '07++12': 'voc_2007_trainval+voc_2007_test+voc_2012_trainval',
        },
        test={
            '07': 'voc_2007_test',
            '07+12': 'voc_2007_test',
            '12': 'voc_2012_test',
            '07++12': 'voc_2012_test',
        },
        iters={'07': 40000, '07+12': 80000, '12': 40000, '07++12': 80000},
        rpn_iters=70000,
        weights='data/imagenet_models/{network}.v2.caffemodel',
        num_dets=2000,
        det_thresh=1e-5,
    ),
    'coco': Place(
        models='models/coco',
        networks={VGG16: VGG16, VGG_M: VGG_M},
        cfgs={FRCN: 'fast_rcnn', OHEM: 'fast_rcnn_ohem', FASTER: FASTER, FASTER_OHEM: FASTER_OHEM},
        train=_everywhere('coco_2014_train'),
        test=_everywhere('coco_2014_minival'),
        iters=_everywhere(280000),
        rpn_iters=490000,
        weights='data/imagenet_models/{network}.v2.caffemodel',
        det_thresh=1e-3,
        note="Ours is COCO's AP (IoU 0.50 to 0.95) on coco_2014_minival; the paper's is on test-dev, whose "
        'ground truth only the server has.',
    ),
    'demo': Place(
        models='models/demo/small',
        networks={VGG16: '', VGG_M: ''},
        cfgs={
            FRCN: 'demo_fast_rcnn',
            OHEM: 'demo_ohem',
            FASTER: 'demo_faster_rcnn',
            FASTER_OHEM: 'demo_faster_rcnn_ohem',
            STD: 'demo_adv',
            ADV_PRETRAIN: 'demo_adv_pretrain',
            ADV: 'demo_adv',
            OHEM_ADV: 'demo_ohem_adv',
        },
        train=_everywhere('folder:data/demo:train'),
        test=_everywhere('folder:data/demo:test'),
        iters=_everywhere(1400),
        rpn_iters=2600,
        prefix='demo_',
        snapshots=7,
        note='Ours is of the demo: its images and its small net, from scratch. Hold the order of rows '
        "against the paper's, not the numbers. Its training set stands for all, its net for both networks.",
    ),
    'bccd': Place(
        models='models/bccd/VGG16',
        networks={VGG16: '', VGG_M: ''},
        cfgs={
            FRCN: 'bccd_fast_rcnn',
            OHEM: 'bccd_ohem',
            FASTER: 'bccd_faster_rcnn',
            FASTER_OHEM: 'bccd_faster_rcnn_ohem',
        },
        train=_everywhere('folder:data/BCCD:trainval'),
        test=_everywhere('folder:data/BCCD:test'),
        iters=_everywhere(480),
        rpn_iters=480,
        prefix='bccd_',
        weights='data/imagenet_models/VGG16_trunk.caffemodel',
        note="Ours is of BCCD, photographs of blood cells: the numbers may not be held against the paper's.",
    ),
}  # fmt: skip

# ---------------------------------------------------------------- table 1: ablations, VOC 2007

_ABLATIONS = (
    Row('frcn', 'FRCN: N=2, B=128, bg_lo=0.1', paper='66.9 (table 3)', released='67.6'),
    Row('frcn-bg_lo-0', 'FRCN: bg_lo=0', train=('bg_lo_0',)),
    Row('frcn-n1', 'FRCN: N=1', train=('one_image',), iter_size=1),
    Row('frcn-n1-bg_lo-0', 'FRCN: N=1, bg_lo=0', train=('one_image', 'bg_lo_0'), iter_size=1),
    Row('all-rois-n1', 'FRCN, all RoIs: N=1, B=2048, lr x3', train=('one_image_all_rois',), lr=3, iter_size=1),
    Row('all-rois', 'FRCN, all RoIs: N=2, B=2048, lr x3', train=('all_rois',), lr=3, iter_size=1),
    Row('ohem-n1', 'OHEM: N=1, B=128', method=OHEM, train=('one_image',), iter_size=1),
    Row('ohem', 'OHEM: N=2, B=128', method=OHEM, paper='69.9', released='71.5'),
)
# The smaller network; all RoIs at lr x4
_ABLATIONS_M = tuple(
    replace(
        row,
        name='m-' + row.name,
        title=row.title.replace('x3', 'x4'),
        network=VGG_M,
        lr=4 if row.lr == 3 else 1,
        paper='62.0' if row.name == 'ohem' else '',
        released='62.8' if row.name == 'ohem' else '',
    )
    for row in _ABLATIONS
    if row.name in ('frcn', 'frcn-bg_lo-0', 'all-rois-n1', 'all-rois', 'ohem')
)
_MORE_ABLATIONS = (
    Row('all-rois-lr1', 'FRCN, all RoIs: N=2, B=2048, lr x1', train=('all_rois',), iter_size=1),
    Row('all-rois-lr4', 'FRCN, all RoIs: N=2, B=2048, lr x4', train=('all_rois',), lr=4, iter_size=1),
    Row('frcn-b64', 'FRCN: B=64', train=('b64',), iter_size=1),
    Row('frcn-fg-0.1', 'FRCN: foreground 0.1', train=('fg_fraction_0.1',)),
    Row('frcn-fg-0.5', 'FRCN: foreground 0.5', train=('fg_fraction_0.5',)),
    Row('ohem-b64', 'OHEM: B=64', method=OHEM, train=('b64',), iter_size=1),
    Row('ohem-one-pass', 'OHEM: one pass of 2 images', method=OHEM, train=('one_pass',), iter_size=1),
    Row('ohem-two-passes', 'OHEM: two passes of 1 image', method=OHEM, train=('two_passes',), iter_size=2),
    Row('ohem-no-nms', 'OHEM: no NMS', method=OHEM, train=('ohem_no_nms',)),
    Row('ohem-nms-0.5', 'OHEM: NMS at 0.5', method=OHEM, train=('ohem_nms_0.5',)),
    Row('ohem-nms-0.9', 'OHEM: NMS at 0.9', method=OHEM, train=('ohem_nms_0.9',)),
    Row('ohem-cls-loss', 'OHEM: ranked by classification loss', method=OHEM, train=('ohem_cls_loss',)),
    Row('ohem-stratified', 'OHEM: two strata, after S-OHEM', method=OHEM, train=('ohem_stratified',)),
    Row('ohem-bf16', 'OHEM in bf16', method=OHEM, train=('bf16',)),
    Row('ohem-bf16-ranking', 'OHEM: ranked in bf16', method=OHEM, train=('bf16_ranking',)),
    Row('ohem-rank-sampling', 'OHEM: drawn by loss rank, no NMS', method=OHEM, train=('ohem_rank_sampling',)),
)

# ---------------------------------------------------------------- tables 3 to 6: +M, +B, more data

_M_TRAIN, _M_TEST, _B = ('multi_scale_train',), ('multi_scale_test',), ('iterations', 'voting')


def _plus_m_b(row: Row, **changes) -> Row:
    """The row with multi-scale training and testing, and with iterative box regression."""
    changes = {'paper': '', 'released': '', **changes}
    title = row.title + ' +M +B'
    return replace(row, name=row.name + '-m-b', title=title, train=_M_TRAIN, test=(*_M_TEST, *_B), **changes)


def _on(data: str, row: Row, paper: str, released: str = '') -> Row:
    return replace(row, name=f'{data}-{row.name}', data=data, paper=paper, released=released)


_FRCN, _OHEM = Row('frcn', 'FRCN'), Row('ohem', 'OHEM', method=OHEM)
_FRCN_MB, _OHEM_MB = _plus_m_b(_FRCN), _plus_m_b(_OHEM)
# AP from 0.50 to 0.95 on test-dev
_COCO = (
    _on('coco', _FRCN, ''),
    _on('coco', _OHEM, ''),
    replace(_on('coco', _OHEM, ''), name='coco-ohem-m', title='OHEM +M', train=_M_TRAIN, test=_M_TEST),
    _on('coco', _OHEM_MB, ''),
)


def _components(row: Row) -> tuple[Row, ...]:
    """+M and +B, whole and in parts."""

    def part(name, title, train=(), test=(), **more):
        name, title = f'{row.name}-{name}', f'{row.title} {title}'
        return replace(row, name=name, title=title, train=train, test=test, paper='', released='', **more)

    return (
        row,
        part('m-test', '+M in testing alone', test=_M_TEST),
        part('m', '+M', _M_TRAIN, _M_TEST),
        part('b', '+B', test=_B),
        replace(_plus_m_b(row), paper='72.4' if row.method == FRCN else '75.1'),
        part('m-train', '+M in training alone', _M_TRAIN, beyond=True),
        part('m-nearest', '+M, each RoI at one scale', _M_TRAIN, ('multi_scale_test_nearest',), beyond=True),
        part('iterations', '+ iterations alone', test=('iterations',), beyond=True),
        part('voting', '+ voting alone', test=('voting',), beyond=True),
    )


# ---------------------------------------------------------------- table 8: A-Fast-RCNN (CVPR 2017)

# Of the released code's 40000 iterations of stage 3, stage 1 has 10000 and stage 2 25000
_STAGE1 = Row('adv-stage-1', 'stage 1: Fast R-CNN', method=STD, share=0.25, beyond=True)
_STAGE2 = Row('adv-stage-2', 'stage 2: the adversary alone', method=ADV_PRETRAIN, share=0.625, start=_STAGE1,
              start_without=(), beyond=True)  # fmt: skip
_STAGE3 = Row('adv', 'FRCN with adversary', method=ADV, start=_STAGE1, adversary=_STAGE2, beyond=True)
_ADVERSARY = (
    Row('frcn-bg_lo-0', 'FRCN: bg_lo=0', train=('bg_lo_0',), beyond=True),
    Row('frcn-stage-1', 'FRCN, from stage 1', method=STD, start=_STAGE1, start_without=('bbox_pred',), beyond=True),
    replace(_STAGE3, released='70.8'),
    replace(_OHEM, beyond=True),
    Row('ohem-stage-1', 'OHEM, from stage 1', method=OHEM, train=('two_passes',), iter_size=2, start=_STAGE1,
        start_without=('bbox_pred',), beyond=True),
    replace(_STAGE3, name='ohem-adv', title='OHEM with adversary', method=OHEM_ADV),
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """title; what its figures are; where it is run unless told; its rows."""

    title: str
    figure: str
    on: str
    rows: tuple[Row, ...] = field(default=())


TABLES = {
    1: Table(
        'Ablations, trained on VOC 2007 trainval, tested on VOC 2007 test',
        'mAP, %',
        'pascal_voc',
        (
            *_ABLATIONS,
            *_ABLATIONS_M,
            *(replace(row, beyond=True) for row in _MORE_ABLATIONS),
        ),
    ),
    2: Table('Cost of a training iteration', '', 'pascal_voc'),  # rows: experiments/cost.py
    3: Table(
        'VOC 2007 test',
        'mAP, %',
        'pascal_voc',
        (
            _on('07', _FRCN, '66.9', '67.6'),
            _on('07', _OHEM, '69.9', '71.5'),
            _on('07', _FRCN_MB, '72.4'),
            _on('07', _OHEM_MB, '75.1'),
            _on('07+12', _FRCN, '70.0'),
            _on('07+12', _OHEM, '74.6', '75.5'),
            _on('07+12', _OHEM_MB, '78.9'),
        ),
    ),
    4: Table(
        'VOC 2012 test',
        'mAP, %',
        'pascal_voc',
        (
            _on('12', _FRCN, '65.7'),
            _on('12', _OHEM, '69.8'),
            _on('12', _OHEM_MB, '72.9'),
            _on('07++12', _FRCN, '68.4'),
            _on('07++12', _OHEM, '71.9'),
            _on('07++12', _OHEM_MB, '76.3'),
            replace(
                _on('07++12', _OHEM_MB, '80.1'),
                name='07++12-coco-ohem-m-b',
                title='OHEM +M +B, from COCO',
                start=_COCO[2],
            ),
        ),
    ),
    5: Table('MS COCO', 'AP, %', 'coco', _COCO),
    6: Table(
        '+M and +B, trained on VOC 2007 trainval, tested on VOC 2007 test',
        'mAP, %',
        'pascal_voc',
        (
            *_components(replace(_FRCN, paper='66.9 (table 3)', released='67.6')),
            *_components(replace(_OHEM, paper='69.9', released='71.5')),
        ),
    ),
    7: Table(
        'Faster R-CNN, end to end; not in the paper',
        'mAP, %',
        'pascal_voc',
        (
            _FRCN,
            Row('frcn-bg_lo-0', 'FRCN: bg_lo=0', train=('bg_lo_0',)),
            _OHEM,
            Row('faster', 'Faster R-CNN', method=FASTER, beyond=True),
            Row('faster-ohem', 'Faster R-CNN, OHEM', method=FASTER_OHEM, beyond=True),
        ),
    ),
    8: Table('A-Fast-RCNN, OHEM and both; not in the paper', 'mAP, %', 'pascal_voc', _ADVERSARY),
}
