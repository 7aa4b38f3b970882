"""The table of docs/export.md says what the recipes say, and no layer type differs by more than it says."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip('onnx', reason='export needs the package onnx: pip install onnx onnxruntime')
pytest.importorskip('onnxruntime', reason='what is exported is run by onnxruntime: pip install onnxruntime')

DOCS = Path(__file__).parent.parent / 'docs'
LAST_DIGITS = 1e-6  # which processors round each in their way
AGAIN = 'run: python docs/make_export_page.py'


def cells(row):
    return [cell.strip() for cell in row.strip('|').split('|')]


def test_the_table_does_not_lie():
    script = runpy.run_path(str(DOCS / 'make_export_page.py'))
    found = script['measured']()
    stated = [cells(row) for row in script['rows_of']((DOCS / 'export.md').read_text())]
    true = [cells(row) for row in script['rows'](found)]
    without_figures = [[*row[:2], *row[3:]] for row in stated]
    assert without_figures == [[*row[:2], *row[3:]] for row in true], AGAIN
    for name, _, bound, *_ in stated:
        if name in found:
            assert found[name][0] <= max(float(bound), LAST_DIGITS), f'{name} differs by {found[name][0]:.1e}; {AGAIN}'
