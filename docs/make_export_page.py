"""Writes the table of docs/export.md: every layer type, whether it exports, and the largest difference measured.

    python docs/make_export_page.py

The differences are measured anew on the cases of tests/caffe/export_cases.py and on the recordings of the original
Caffe. A test fails while a type is missing from the table, has another reason there, or differs by more than it says.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'lib'), str(ROOT / 'tests' / 'caffe')]

from command_line import environment  # noqa: E402

environment.say_what_is_missing(Path(__file__).name)

import export_cases  # noqa: E402
import exported  # noqa: E402

from caffe.layer import layer_type_list  # noqa: E402
from caffe.onnx_export import recipes  # noqa: E402

PAGE = ROOT / 'docs' / 'export.md'
BEGIN, END = '<!-- made by docs/make_export_page.py -->', '<!-- end -->'
HEADER = ['| type | exports | largest difference | cases | recorded on Caffe |', '| --- | --- | --- | --- | --- |']


def measured() -> dict[str, tuple[float, int, int]]:
    """Type -> the largest difference, the number of cases, and of recordings."""
    found: dict[str, tuple[float, int, int]] = {}

    def note(layer_type: str, difference: float, case: int) -> None:
        worst, cases, recordings = found.get(layer_type, (0.0, 0, 0))
        found[layer_type] = max(worst, difference), cases + case, recordings + 1 - case

    with tempfile.TemporaryDirectory() as folder:
        for case in export_cases.CASES:
            for layer_type in case.types:
                note(layer_type, exported.measure(case, Path(folder)), 1)
    for path in exported.recordings():
        note(*exported.measure_recording(path), 0)
    return found


def rounded_up(difference: float) -> str:
    """A bound in words: '0', or the power of ten above. At least 1e-6, which processors differ by among themselves."""
    return '0' if difference == 0 else f'1e{max(math.ceil(math.log10(difference)), -6)}'


def rows(found: dict[str, tuple[float, int, int]]) -> list[str]:
    """The table's rows."""
    recipes.load()
    lines = []
    for name in layer_type_list():
        if recipes.why_not(name):
            lines.append(f'| {name} | no: {recipes.why_not(name)} | | | |')
            continue
        worst, cases, recordings = found[name]
        limits = recipes.limits(name)
        says = f'yes; {limits}' if limits else 'yes'
        lines.append(f'| {name} | {says} | {rounded_up(worst)} | {cases} | {recordings or ""} |')
    return lines


def rows_of(page: str) -> list[str]:
    """The rows that stand in the page."""
    table = page.split(BEGIN)[1].split(END)[0]
    return [line for line in table.strip().split('\n') if line.startswith('|')][len(HEADER) :]


if __name__ == '__main__':
    os.environ.setdefault('GLOG_minloglevel', '2')  # the recordings are of old prototxts, of which Caffe warns
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text('\n'.join([before + BEGIN, '', *HEADER, *rows(measured()), '', END + after]))
    print(PAGE)
