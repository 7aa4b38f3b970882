"""experiments/svd_time.py: that it measures and reports; no test asserts a time."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_row_for_the_whole_net_and_one_for_each_choice_of_ranks():
    net = 'models/demo/small/fast_rcnn/test.prototxt'
    flags = ['--rank', 'fc5=16', '--rank', 'fc5=8', '--size', '60', '80', '--proposals', '20', '--rounds', '1']
    done = subprocess.run(
        [sys.executable, 'experiments/svd_time.py', '--def', net, *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in done.stdout.splitlines() if '| ' in line]
    assert [row[0] for row in rows[2:]] == ['whole', 'fc5 16', 'fc5 8']
    others = 24 * 76 + 48 * 217 + 64 * 433 + 64 * 577 + 25 * 129  # convolutions, cls_score, bbox_pred; with biases
    fc5 = [128 * 2304 + 128, 16 * (128 + 2304) + 128, 8 * (128 + 2304) + 128]
    assert [row[1] for row in rows[2:]] == [f'{(others + count) / 1e6:.1f}' for count in fc5]
    for row in rows[2:]:
        fastest, slowest = map(float, row[2].removesuffix(')').split(' ('))
        assert 0 <= fastest <= slowest and row[3].endswith('%')
