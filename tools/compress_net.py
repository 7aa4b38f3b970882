#!/usr/bin/env python3
"""Compresses a trained net: fc6 and fc7 by truncated SVD, as in section 4.4 of Fast R-CNN.

tools/compress_net.py --def models/pascal_voc/VGG16/fast_rcnn_ohem/test.prototxt \\
    --net output/fast_rcnn_ohem/voc_2007_trainval/vgg16_fast_rcnn_ohem_iter_40000.caffemodel \\
    --rank fc6=1024 fc7=256

writes beside the weights ..._svd_fc6_1024_fc7_256.caffemodel and the prototxt that goes with it, of the same name;
tools/test_net.py and tools/demo.py take the two as they take others. Any InnerProduct layer can be named, and any rank.
With --def-svd the prototxt goes there; one that is there already, such as Fast R-CNN's
models/VGG16/compressed/test.prototxt, says the ranks itself: leave out --rank.
"""

import _init_paths  # noqa: F401

import argparse
import os
import tempfile

from _command_line import add_flags, configure, parser_of, run


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--def', dest='prototxt', metavar='FILE', required=True, help='test prototxt of the net')
    parser.add_argument(
        '--def-svd',
        dest='prototxt_svd',
        metavar='FILE',
        help='test prototxt of the compressed net (default: beside the weights)',
    )
    parser.add_argument('--net', dest='caffemodel', metavar='FILE', required=True, help='trained weights (.caffemodel)')
    parser.add_argument(
        '--rank',
        nargs='+',
        metavar='LAYER=K',
        help='singular values to keep (default: fc6=1024 fc7=256, those of the paper)',
    )
    add_flags(parser)
    return parser.parse_args()


def parsed_ranks(texts: list[str]) -> dict[str, int]:
    """Ranks by layer out of texts such as fc6=1024. Raises ValueError."""
    ranks: dict[str, int] = {}
    for text in texts:
        name, _, number = text.partition('=')
        if not name or not number.isdecimal() or int(number) < 1 or name in ranks:
            raise ValueError(f'--rank {text}: expected LAYER=K, K being 1 or more, each layer once, as in fc6=1024')
        ranks[name] = int(number)
    return ranks


def text_of(prototxt: str) -> str:
    """What a prototxt says. Raises ValueError for a file that is no text."""
    with open(prototxt, encoding='utf-8') as stream:
        try:
            return stream.read()
        except UnicodeDecodeError:
            raise ValueError(
                f'{prototxt}: a binary file, where a prototxt is expected. Weights have the .caffemodel ending'
            ) from None


def main() -> None:
    args = parse_args()
    for path, what in ((args.prototxt, 'test prototxt'), (args.caffemodel, 'trained weights')):
        if not os.path.isfile(path):
            raise FileNotFoundError(f'there is no {what} {path}')
    given = None if args.rank is None else parsed_ranks(args.rank)
    configure(args)

    import whole_file
    from fast_rcnn.compression import (
        PUBLISHED_RANKS,
        CompressionError,
        compress,
        compressed_name,
        compressed_prototxt,
        ranks_of,
    )
    from fast_rcnn.model_card import add_card, read_card
    from fast_rcnn.test import load_net

    card = read_card(args.caffemodel)
    written = args.prototxt_svd
    whole_file.check_place(args.caffemodel)  # the folder of what is written
    if written:
        whole_file.check_place(written)
    if args.prototxt_svd and os.path.exists(args.prototxt_svd):
        if given is not None:
            raise ValueError(
                f'{args.prototxt_svd} is there and says the ranks itself: leave out --rank, or name another file'
            )
        text = text_of(args.prototxt_svd)
        net = load_net(args.prototxt, args.caffemodel)
    else:
        ranks = PUBLISHED_RANKS if given is None else given
        text = compressed_prototxt(text_of(args.prototxt), ranks, args.prototxt)
        net = load_net(args.prototxt, args.caffemodel)
        for name, rank in ranks.items():
            shape = net.params[name][0].data.shape
            if rank > min(shape):
                raise CompressionError(
                    f'--rank {name}={rank}: its weights are {shape[0]} x {shape[1]}, so {min(shape)} is the most'
                )
        ranks = {name: ranks[name] for name in net.params if name in ranks}  # the order of the weights' name
        written = written or compressed_name(args.caffemodel, ranks).removesuffix('.caffemodel') + '.prototxt'
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(written))
        whole_file.write_text(copy, text)
        compressed = load_net(copy, args.caffemodel)
    print(f'Uncompressed network {args.prototxt} : {args.caffemodel}')
    print(f'Compressed network prototxt {written}')
    lost = compress(net, compressed)
    if not lost:
        raise CompressionError(
            f'{written} has no layers in two, such as fc6_L and fc6_U, that {args.prototxt} has whole'
        )
    ranks = {name: rank for name, rank in ranks_of(compressed).items() if name in lost}
    print(f'{"layer":<8} {"weights":>13} {"rank":>5} {"numbers before":>15} {"after":>12}   lost')
    for name, rank in ranks.items():
        rows, columns = net.params[name][0].data.shape
        after = rank * (rows + columns)
        note = '' if after < rows * columns else '   no gain: give a lower rank'
        print(
            f'{name:<8} {f"{rows} x {columns}":>13} {rank:>5} {rows * columns:>15,} {after:>12,}   '
            f'{100 * lost[name]:.2f}% of the norm{note}'
        )
    path = compressed_name(args.caffemodel, ranks)
    with whole_file.beside(path) as made:
        compressed.save(made)
        if card is not None:
            add_card(made, card.remade(text))
    if written != args.prototxt_svd or not os.path.exists(written):
        whole_file.write_text(written, text)
    print(f'Wrote svd model to: {path}')


if __name__ == '__main__':
    run(main)
