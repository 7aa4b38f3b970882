"""What experiments/scaling.py predicts and measures."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parent.parent.parent / 'experiments' / 'scaling.py'
sys.path.insert(0, str(FILE.parent))
import scaling  # noqa: E402


def test_predictions_by_hand():
    """A million numbers, 4 MB, between 4 ranks at 1 GB/s without waiting: 2 * 3/4 * 4 ms; a tree's 2 levels, twice."""
    assert scaling.ring(1e6, 4, 1e9, 0) == pytest.approx(6e-3)
    assert scaling.slices(1e6, 4, 1e9, 0) == pytest.approx(6e-3)
    assert scaling.tree(1e6, 4, 1e9, 0) == pytest.approx(16e-3)
    assert scaling.ring(0, 5, 1e9, 1e-6) == pytest.approx(8e-6)


def test_factors_of_fc6_and_fc7_are_fewer_until_the_ranks_are_many():
    """64 rows: (29184 + 8192) * 64 = 2.39 million numbers a rank to each other one, against twice 119.5 million."""
    assert scaling.factors() == 2392064
    link = (1e9, 0)
    both = scaling.FC6 + scaling.FC7
    sent = {r: (r - 1) * 4 * scaling.factors() / 1e9 for r in (2, 64, 100, 101, 1024)}
    better = [r for r in sent if sent[r] < scaling.slices(both, r, *link)]
    assert better == [2, 64]


def test_the_table_on_the_page_is_what_the_script_prints():
    page = (FILE.parent.parent / 'docs' / 'scaling.md').read_text()
    assert '\n'.join(scaling.table()) in page


@pytest.mark.slow
def test_the_interface_carries_the_bytes_that_are_counted():
    """64 rows of 6272 + 1024 float32: 1.78 MiB; the matrix's two halves would be 24.5. Headers: two in a hundred."""
    if os.geteuid() != 0 or not shutil.which('tc'):
        pytest.skip('network namespaces need root, ip and tc')
    command = [sys.executable, FILE, '--measure', '--mbit', '1000']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    counted, as_matrices, on_wire = map(
        float, re.search(r'2 ranks: .* ([\d.]+) counted, as matrices ([\d.]+); .*: ([\d.]+)', done.stdout).groups()
    )
    assert counted == pytest.approx(64 * 7296 * 4 / 2**20, abs=0.02)
    assert as_matrices == pytest.approx(6272 * 1024 * 4 / 2**20, abs=0.02)
    assert counted <= on_wire < 1.02 * counted + 0.05
