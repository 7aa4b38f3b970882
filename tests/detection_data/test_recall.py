"""Recall of proposals, by numbers that can be checked by hand."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from voc_folder import annotation

from detection_data.factory import get_imdb
from detection_data.proposals import write_proposals
from detection_data.recall import average_recall, best_overlaps, recall_at, recall_table

TOOL = Path(__file__).parents[2] / 'tools' / 'eval_recall.py'


@pytest.fixture
def measured(folder):
    """Two objects that count. Proposals with an IoU of 0.5 and 0.8 with the first, 0 with the second."""
    # 20 x 20 pixels, then 40 x 30; the difficult one does not count
    objects = [('cat', 1, 1, 20, 20), ('dog', 21, 11, 60, 40), ('dog', 1, 21, 10, 30, True)]
    folder.add('m', annotation(objects))
    folder.split('measured', 'm')
    half, most = [0, 0, 9, 19], [0, 0, 19, 15]  # 200 of 400 pixels; 320 of 400
    write_proposals(str(folder.root / 'proposals' / 'random_measured.h5'), ['m'], [np.array([half, most])], 'random')
    return folder


def test_recall_of_a_data_set(measured):
    data = get_imdb(f'folder:{measured.root}:measured')
    data.set_proposal_method('random')
    best, areas = best_overlaps(data)
    np.testing.assert_allclose(best, [0.8, 0.0])
    assert areas.tolist() == [400, 1200]
    assert best_overlaps(data, max_boxes=1)[0][0] == 0.5
    table = recall_table(best, areas)
    assert table['all'] == {'objects': 2, 'recall_50': 0.5, 'recall_70': 0.5, 'AR': pytest.approx(0.35)}
    assert table['small'] == {'objects': 1, 'recall_50': 1.0, 'recall_70': 1.0, 'AR': pytest.approx(0.7)}
    assert table['medium']['recall_50'] == 0 and table['large']['objects'] == 0


def test_an_overlap_equal_to_the_threshold_counts():
    assert recall_at(np.array([0.5, 0.49]), 0.5) == 0.5
    assert np.isnan(recall_at(np.zeros(0), 0.5))


def test_average_recall_is_the_mean_over_ten_thresholds():
    # 0.50, 0.55, 0.60 are reached: 3 of 10
    assert average_recall(np.array([0.62])) == pytest.approx(0.3)


def test_the_tool_prints_a_table_and_writes_json(measured, tmp_path):
    out = tmp_path / 'recall.json'
    done = subprocess.run(
        [sys.executable, TOOL, '--imdb', f'folder:{measured.root}:measured', '--method', 'random',
         '--json', out],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'recall at 0.7' in done.stdout
    assert re.search(r'^large .* 0 +n/a +n/a +n/a$', done.stdout, re.MULTILINE) and 'nan' not in done.stdout
    assert json.loads(out.read_text())['large'] == {
        'objects': 0,
        'recall_50': None,
        'recall_70': None,
        'AR': None,
    }


def test_without_proposals_the_tool_says_how_to_make_them(folder):
    done = subprocess.run(
        [sys.executable, TOOL, '--imdb', f'folder:{folder.root}:train'], capture_output=True, text=True
    )
    assert done.returncode == 1 and 'tools/make_proposals.py --imdb' in done.stderr
