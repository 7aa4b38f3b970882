#!/usr/bin/env python3
"""Joins the weights of several trained nets into a new one: which layers to copy is in a JSON file.

tools/do_net_surgery.py --out_net_def models/demo/small/fast_rcnn_adv/train.prototxt \\
    --net_surgery_json models/demo/small/fast_rcnn_adv/init_weights.json \\
    --out_net_file output/demo_adv/demo_train/train_init.caffemodel

The file is a list; each entry names a net and its weights, and the layers to copy from it:

    {"prototxt": "train.prototxt", "model": "trained.caffemodel",
     "copy_ops": {"source": ["fc6", ...], "dest": ["fc6", ...], "reshape": [0, ...]}}

reshape 1 lets shapes differ where the number of values does not. --model PROTOTXT=FILE, once for each, takes other
weights than those the file names. Layers that nothing is copied into keep what their fillers give, by RNG_SEED.
Flags and file are those of python_utils/do_net_surgery.py in A-Fast-RCNN's code.
"""

import _init_paths  # noqa: F401

import argparse
import json
import os
from typing import Any

import whole_file
from _command_line import add_flags, configure, parser_of, run


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--out_net_def', required=True, metavar='FILE', help='prototxt of the new net')
    parser.add_argument('--net_surgery_json', required=True, metavar='FILE', help='what to copy')
    parser.add_argument('--out_net_file', required=True, metavar='FILE', help='where to write the weights')
    parser.add_argument(
        '--model', action='append', default=[], metavar='PROTOTXT=FILE', help="another model for an entry's prototxt"
    )
    add_flags(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    steps = read_steps(args.net_surgery_json)
    models = dict(item.partition('=')[::2] for item in args.model)
    unknown = set(models) - {step['prototxt'] for step in steps}
    if unknown:
        raise ValueError(f'--model: {args.net_surgery_json} has no entry of the prototxt {", ".join(sorted(unknown))}')
    configure(args)

    import caffe
    from fast_rcnn.config import cfg

    if not os.path.isfile(args.out_net_def):
        raise FileNotFoundError(f'there is no prototxt {args.out_net_def} (--out_net_def)')
    whole_file.check_place(args.out_net_file, makes_folders=True)
    caffe.set_random_seed(cfg.RNG_SEED)
    net = caffe.Net(args.out_net_def, caffe.TEST)
    copied: list[str] = []
    for step in steps:
        model = models.get(step['prototxt'], step['model'])
        for path, what in ((step['prototxt'], 'prototxt'), (model, 'model')):
            if not os.path.isfile(path):
                raise FileNotFoundError(f'there is no {what} {path}, which {args.net_surgery_json} names')
        source = caffe.Net(step['prototxt'], model, caffe.TEST)
        for name, into, reshape in operations(step):
            copy_layer(source, name, net, into, reshape, f'{args.net_surgery_json}: {step["prototxt"]}')
            copied.append(into)
        print(f'{model}: copied {", ".join(into for _, into, _ in operations(step))}')
    twice = sorted({name for name in copied if copied.count(name) > 1})
    if twice:
        print(f'copied more than once, the last one counts: {", ".join(twice)}')
    print(f'as filled: {", ".join(name for name in net.params if name not in copied) or "none"}')
    os.makedirs(os.path.dirname(os.path.abspath(args.out_net_file)), exist_ok=True)
    with whole_file.beside(args.out_net_file) as made:
        net.save(made)
    print(f'Wrote {args.out_net_file}')


def read_steps(path: str) -> list[dict]:
    """The entries of a surgery file. Raises FileNotFoundError, or ValueError naming the file and the entry."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f'there is no file {path} (--net_surgery_json)')
    with open(path, encoding='utf-8', errors='replace') as file:
        try:
            steps = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{path} is not valid JSON: {error}') from None
    if not isinstance(steps, list) or not steps:
        raise ValueError(f'{path}: expected a list of nets to copy from; got {type(steps).__name__}')
    for number, step in enumerate(steps, start=1):
        problem = _problem(step)
        if problem:
            raise ValueError(f'{path}, entry {number}: {problem}; see tools/do_net_surgery.py --help')
    return steps


def _problem(step) -> str | None:
    """What is wrong with an entry, if anything is."""
    if not isinstance(step, dict) or not all(isinstance(step.get(key), str) for key in ('prototxt', 'model')):
        return 'expected "prototxt" and "model", the names of two files, and "copy_ops"'
    lists = step.get('copy_ops')
    if not isinstance(lists, dict) or not all(isinstance(lists.get(key), list) for key in ('source', 'dest')):
        return '"copy_ops" is to have "source" and "dest", lists of layers, and may have "reshape", of 0 or 1'
    source, dest, reshape = lists['source'], lists['dest'], lists.get('reshape', [0] * len(lists['source']))
    if not isinstance(reshape, list) or not len(source) == len(dest) == len(reshape):
        return f'copy_ops has {len(source)} layers as "source" and {len(dest)} as "dest"; "reshape" has to be as long'
    if not all(isinstance(name, str) for name in (*source, *dest)) or not all(each in (0, 1) for each in reshape):
        return '"source" and "dest" are names of layers, "reshape" is 0 or 1'
    return None


def operations(step: dict) -> list[tuple[str, str, bool]]:
    """(layer to copy, layer to copy it into, whether shapes may differ) of an entry."""
    lists = step['copy_ops']
    reshape = lists.get('reshape', [0] * len(lists['source']))
    return list(zip(lists['source'], lists['dest'], map(bool, reshape), strict=True))


def copy_layer(source: Any, name: str, net: Any, into: str, reshape: bool, where: str) -> None:
    """Copies the parameters of a layer. Raises ValueError if they do not fit."""
    for each, layer, which in ((source, name, 'it'), (net, into, 'the new net')):
        if layer not in each.params:
            raise ValueError(f'{where}: {which} has no layer {layer} with weights; there are {", ".join(each.params)}')
    old, new = source.params[name], net.params[into]
    if len(old) != len(new):
        raise ValueError(f'{where}: {name} has {len(old)} blobs of weights, and {into} of the new net {len(new)}')
    for i in range(len(old)):
        values, there = old[i].data, new[i].data
        if values.shape != there.shape and not (reshape and values.size == there.size):
            raise ValueError(
                f'{where}: blob {i} of {name} has shape {values.shape}, that of {into} in the new net {there.shape}'
                + ('' if reshape or values.size != there.size else '; "reshape": 1 copies it nevertheless')
            )
        there[...] = values.reshape(there.shape)


if __name__ == '__main__':
    run(main)
