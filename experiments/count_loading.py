#!/usr/bin/env python3
"""How many published nets load: counts the prototxts below folders, each in both phases.

experiments/count_loading.py CHECKOUT...            a row a folder: nets, those that load, what keeps the others
experiments/count_loading.py CHECKOUT --why         also a line for each that does not

A net loads if `caffe.Net` makes it in TRAIN or in TEST, as it stands. One whose data, or whose module or layer type
that reads data, is not at hand is tried again with an Input layer in the place of each such layer: all else of it is
here, then. Fillers are left out, so that hundreds of large nets are made in minutes; solvers and label maps are passed
over. Files are *.prototxt and *.pt.
"""

from __future__ import annotations

import _environment  # noqa: F401

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

import caffe  # noqa: E402
from caffe.proto import caffe_pb2  # noqa: E402
from fast_rcnn.config import cfg  # noqa: E402

LOADS, WITH_INPUT, FAILS = 'load', 'load with Input for data', 'do not load'
KINDS = (LOADS, WITH_INPUT, FAILS)
SIZE = 224  # of images that nobody says the size of
# Channels and sizes of images, tried in this order: photographs, MNIST's digits, and pairs of those
IMAGES = ((3, None), (1, 28), (2, 28))
PICTURES = ('data', 'color', 'depth', 'hha', 'hsv')  # tops of Python layers that are images; others are maps of labels
# Layers that read data and have no bottoms; Python layers of modules that are not there are among them
DATA_TYPES = ('Data', 'HDF5Data', 'ImageData', 'WindowData', 'AnnotatedData', 'ImageLabelmapData', 'Python')
LEFT_OUT = ('DetectionEvaluate',)  # its rows are for a solver that computes mean average precision


def is_net(text: str) -> bool:
    """Whether a prototxt is a net: it has layers, and is no solver with a net inside."""
    if not re.search(r'(?m)^\s*layers?\s*:?\s*\{', text):
        return False
    try:
        text_format.Parse(text, caffe_pb2.SolverParameter())
    except text_format.ParseError:
        return True
    return False


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
    settle(net)
    copy = folder / path.name
    copy.write_text(text_format.MessageToString(net))
    return copy


def settle(net) -> None:
    """Sets the detector's settings as the net shows that it is meant to be used: its RoIDataLayer, and its pooling.

    R-FCN pools maps of 8 numbers, two regressions, where there is one for objects of any class.
    """
    cfg.TRAIN.AGNOSTIC = any(layer.psroi_pooling_param.output_dim == 8 for layer in net.layer)
    for layer in net.layer:
        if layer.python_param.layer == 'RoIDataLayer':
            cfg.TRAIN.HAS_RPN = 'gt_boxes' in layer.top
            cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED = cfg.TRAIN.HAS_RPN
            cfg.TRAIN.BBOX_REG = cfg.TRAIN.HAS_RPN or any(top.startswith('bbox_') for top in layer.top)


def with_inputs(text: str, channels: int = 3, size: int | None = None) -> str | None:
    """The text of a net with Input layers in the place of those that read data; None if it has none.

    Images have so many channels, and pixels a side as the layer says, or `size`.
    Whatever is in those layers need not be known here: it is not read.
    """
    pieces, end, changed = [], 0, False
    for start, stop in blocks(text):
        block = bare(text[start:stop])
        kind = type_of(block)
        kind = next((each for each in DATA_TYPES if each.lower() == kind.lower().replace('_', '')), kind)  # of V1
        reads = kind in DATA_TYPES and not re.search(r'\bbottom\s*:', block)
        if reads or kind in LEFT_OUT:
            pieces += [text[end:start], *(input_layers(block, kind, channels, size) if reads else ())]
            end, changed = stop, True
    return ''.join(pieces) + text[end:] if changed else None


def blocks(text: str) -> list[tuple[int, int]]:
    """Where the layers of a net's text begin and end."""
    found: list[tuple[int, int]] = []
    text = bare(text)
    for match in re.finditer(r'\blayers?\s*:?\s*\{', text):
        if found and match.start() < found[-1][1]:
            continue
        depth, at = 1, match.end()
        while depth and at < len(text):
            depth += (text[at] == '{') - (text[at] == '}')
            at += 1
        found.append((match.start(), at))
    return found


def bare(text: str) -> str:
    """A prototxt with blanks in the place of comments."""
    return re.sub(r'#[^\n]*', lambda comment: ' ' * len(comment[0]), text)


def type_of(block: str) -> str:
    """The type of a layer, in its text without comments; what is within other messages of it does not count."""
    inner, before = block[block.index('{') + 1 : -1], ''
    while inner != before:
        inner, before = re.sub(r'\{[^{}]*\}', '', inner), inner
    found = re.search(r'\btype\s*:\s*["\']?(\w+)', inner)
    return found[1] if found else ''


def input_layers(block: str, kind: str, channels: int, size: int | None) -> list[str]:
    """Input layers with the tops of a layer that reads data, of shapes that such data have; and its rules of phases."""
    said = map(int, re.findall(r'(?:crop_size|new_height|height)\s*:\s*(\d+)', block))
    size = size or max(said, default=0) or SIZE
    rules = ' '.join(re.findall(r'(?:include|exclude)\s*:?\s*\{[^}]*\}', block))
    image = [1, channels, size, size]
    label = {'AnnotatedData': [1, 1, 1, 8], 'ImageLabelmapData': [1, 1, size, size], 'Python': [1, 1, size, size]}
    layers = []
    for i, top in enumerate(re.findall(r'\btop\s*:\s*["\']([^"\']+)', block)):
        is_image = top in PICTURES if kind == 'Python' else i == 0
        shape = image if is_image else label.get(kind, [1])
        dims = ' '.join(f'dim: {length}' for length in shape)
        layers.append(
            f'layer {{ name: "{top}_data" type: "Input" top: "{top}" {rules} input_param {{ shape {{ {dims} }} }} }}\n'
        )
    return layers


def why_not(path: Path, phase: int) -> str:
    """Why a net does not load in a phase, in a line; empty if it does."""
    try:
        caffe.Net(str(path), phase)
    except Exception as error:  # whatever a net's own Python layers raise, too
        return f'{type(error).__name__}: {error}'.strip().split('\n')[0]
    return ''


def outcome(path: Path, folder: Path) -> tuple[str, str]:
    """(one of KINDS, why it does not load as it stands) of a net; the better of its two phases counts."""
    reasons = [why_not(light(path, folder), phase) for phase in (caffe.TRAIN, caffe.TEST)]
    if not all(reasons):
        return LOADS, ''
    for channels, size in IMAGES:
        replaced = with_inputs(path.read_text(errors='replace'), channels, size)
        if replaced is None:
            break
        copy = folder / f'inputs_{path.name}'
        copy.write_text(replaced)
        if not all(why_not(light(copy, folder), phase) for phase in (caffe.TRAIN, caffe.TEST)):
            return WITH_INPUT, reasons[0]
    return FAILS, reasons[0]


def count(folder: Path, why: bool) -> Counter:
    """How many nets below a folder have which outcome."""
    counts: Counter = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        for path in sorted(path for path in folder.rglob('*') if path.suffix in ('.prototxt', '.pt')):
            if path.stat().st_size > 8 << 20 or not is_net(path.read_text(errors='replace')):
                continue
            kind, reason = outcome(path, Path(temporary))
            counts[kind] += 1
            if why and reason:
                print(f'{path.relative_to(folder)}: {kind}: {reason}', flush=True)
    return counts


def main() -> None:
    """Prints a table in Markdown."""
    os.environ.setdefault('GLOG_minloglevel', '3')
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, nargs='+', help='a checkout: all prototxts below it are counted')
    parser.add_argument('--why', action='store_true', help='a line for each net that does not load')
    args = parser.parse_args()
    missing = [str(folder) for folder in args.folder if not folder.is_dir()]
    if missing:
        parser.error(f'no folder: {", ".join(missing)}')
    rows = [(folder.name, count(folder, args.why)) for folder in args.folder]
    print(f'| checkout | nets | {" | ".join(KINDS)} |\n| --- | --- | --- | --- | --- |')
    for name, counts in rows:
        print(f'| {name} | {sum(counts.values())} | {" | ".join(str(counts[kind]) for kind in KINDS)} |')


if __name__ == '__main__':
    main()
