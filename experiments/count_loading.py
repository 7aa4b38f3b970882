#!/usr/bin/env python3
"""How many published nets load: counts the prototxts below folders, each in both phases.

experiments/count_loading.py CHECKOUT...            a row a folder: nets, those that load, what keeps the others
experiments/count_loading.py CHECKOUT --why         also a line for each that does not

A net loads if `caffe.Net` makes it in TRAIN or in TEST and its other phase has no worse reason than that it is made for
one phase alone. What needs data or Python modules that are not at hand is counted apart. Fillers are left out, so that
hundreds of large nets are made in minutes; solvers and label maps are passed over.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from google.protobuf import text_format

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'lib'))
os.environ.setdefault('GLOG_minloglevel', '3')

import caffe  # noqa: E402
from caffe.proto import caffe_pb2  # noqa: E402
from fast_rcnn.config import cfg  # noqa: E402

LOADS, LACKS, FAILS = 'load', 'need data or modules', 'do not load'


def is_net(text: str) -> bool:
    """Whether a prototxt is a net: it has layers."""
    return re.search(r'(?m)^\s*layers?\s*:?\s*\{', text) is not None


def light(path: Path, folder: Path) -> Path:
    """A copy of a net without fillers, in `folder`; the net itself if it does not parse."""
    net = caffe_pb2.NetParameter()
    try:
        text_format.Parse(path.read_text(errors='replace'), net)
    except text_format.ParseError:
        return path  # caffe.Net says what is wrong, with file and line
    for layers in (net.layer, net.layers):
        for layer in layers:
            for _, options in layer.ListFields():
                for field in ('weight_filler', 'bias_filler') if hasattr(options, 'ListFields') else ():
                    if field in options.DESCRIPTOR.fields_by_name:
                        options.ClearField(field)
    _settle(net)
    copy = folder / path.name
    copy.write_text(text_format.MessageToString(net))
    return copy


def _settle(net) -> None:
    """Sets the detector's settings as the net's RoIDataLayer shows that it is meant to be used."""
    for layer in net.layer:
        if layer.type == 'Python' and layer.python_param.module == 'roi_data_layer.layer':
            cfg.TRAIN.HAS_RPN = 'gt_boxes' in layer.top
            cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED = cfg.TRAIN.HAS_RPN
            cfg.TRAIN.BBOX_REG = cfg.TRAIN.HAS_RPN or any(top.startswith('bbox_') for top in layer.top)


def outcome(path: Path, phase: int) -> tuple[str, str]:
    """(LOADS, LACKS or FAILS, why) of a net in a phase."""
    try:
        caffe.Net(str(path), phase)
    except Exception as error:  # whatever a net's own Python layers raise, too
        why = f'{type(error).__name__}: {error}'.strip().split('\n')[0]
        lacks = isinstance(error, (FileNotFoundError, ModuleNotFoundError)) or re.search(
            r'(?i)no such file|no module named|failed to open|which is not there|which python does not find', why
        )
        return (LACKS if lacks else FAILS), why
    return LOADS, ''


def count(folder: Path, why: bool) -> Counter:
    """How many nets below a folder have which outcome; the better of the two phases counts."""
    counts: Counter = Counter()
    order = (LOADS, LACKS, FAILS)
    with tempfile.TemporaryDirectory() as temporary:
        for path in sorted(folder.rglob('*.prototxt')):
            if not is_net(path.read_text(errors='replace')):
                continue
            made = light(path, Path(temporary))
            outcomes = [outcome(made, phase) for phase in (caffe.TRAIN, caffe.TEST)]
            best = min(outcomes, key=lambda each: order.index(each[0]))
            counts[best[0]] += 1
            if why and best[0] != LOADS:
                print(f'{path.relative_to(folder)}: {best[1]}', flush=True)
    return counts


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, nargs='+', help='a checkout: all prototxts below it are counted')
    parser.add_argument('--why', action='store_true', help='a line for each net that does not load')
    args = parser.parse_args()
    missing = [str(folder) for folder in args.folder if not folder.is_dir()]
    if missing:
        parser.error(f'no folder: {", ".join(missing)}')
    rows = [(folder.name, count(folder, args.why)) for folder in args.folder]
    print(f'| checkout | nets | {LOADS} | {LACKS} | {FAILS} |\n| --- | --- | --- | --- | --- |')
    for name, counts in rows:
        print(
            f'| {name} | {sum(counts.values())} | {" | ".join(str(counts[kind]) for kind in (LOADS, LACKS, FAILS))} |'
        )


if __name__ == '__main__':
    main()
