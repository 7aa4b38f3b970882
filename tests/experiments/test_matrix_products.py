"""experiments/matrix_products.py: a speed for each product of our nets by each library."""

import subprocess
import sys
from pathlib import Path

from caffe.kernels import matrix

SCRIPT = Path(__file__).parents[2] / 'experiments' / 'matrix_products.py'


def test_every_product_is_measured_by_every_library():
    done = subprocess.run([sys.executable, str(SCRIPT), '--quick', '--rounds', '1'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.strip('| ').split(' | ') for line in done.stdout.splitlines() if line.startswith('|')]
    products = [row for row in rows if row[0].startswith('fc')]
    strips = [row for row in rows if row[0].startswith('16 ×')]
    assert (len(products), len(strips)) == (7, 4)
    for name, _, layout, *speeds in products:
        not_measured = [speed for speed in speeds if speed == '–']
        left_out = (layout == 'weights with gaps') if 'onednn' in matrix.routes.names else 2
        assert len(not_measured) == left_out, name
    assert all(float(speed) > 0 for row in strips for speed in row[1:])
