"""Flags of the tools that make no sense together, or at all: one line each, before anything is read or written."""

import pytest
from commands import ROOT, SMALL, run

SOLVER = SMALL / 'fast_rcnn_ohem' / 'solver.prototxt'
NET = SMALL / 'fast_rcnn_ohem' / 'test.prototxt'

REFUSED = {
    'new_project: a name that is none': (
        ['new_project.py', 'a/b', '--images', 'docs'], 'a project is named with letters, digits, _ and -',
    ),
    'set_classes: into the file itself': (
        ['set_classes.py', NET, '--out', NET, '--classes', '3'], '--out is the file itself',
    ),
    'test_net: less than no detections': (
        ['test_net.py', '--def', NET, '--net', 'x', '--num_dets', '-1'], '--num_dets is -1',
    ),
    'train_net: a state and weights': (
        ['train_net.py', '--solver', SOLVER, '--snapshot', SOLVER, '--weights', SOLVER], 'leave out --weights',
    ),
    'inspect_rois: no mini-batch': (
        ['inspect_rois.py', '--solver', SOLVER, '--weights', NET, '--batches', '0'], '--batches must be 1 or more',
    ),
    'time_step: a size that is none': (
        ['time_step.py', '--solver', SOLVER, '--image', '600'], '--image takes HEIGHTxWIDTH',
    ),
    'import_proposals: the objects themselves': (
        ['import_proposals.py', '--imdb', 'x', '--source', 'x', '--method', 'gt'], "and not 'gt'",
    ),
    'demo: no photograph': (['demo.py'], 'no photographs'),
}  # fmt: skip


@pytest.mark.parametrize('case', REFUSED)
def test_flags_that_make_no_sense_are_refused(case):
    (tool, *flags), message = REFUSED[case]
    (line,) = run(ROOT / 'tools' / tool, *flags, status=1).stderr.splitlines()
    assert line.startswith(f'{tool}: error: ') and message in line
