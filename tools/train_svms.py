#!/usr/bin/env python3
"""Trains a linear SVM a class on a trained net's features, with hard negatives mined image by image, as R-CNN did.

tools/train_svms.py --gpu cpu --def models/demo/small/fast_rcnn/test.prototxt \\
    --net output/demo_fast_rcnn/demo_train/small_fast_rcnn_iter_1400.caffemodel \\
    --imdb folder:data/demo:train --cfg experiments/cfgs/demo_fast_rcnn.yml

writes beside the weights ..._svm.caffemodel, in which they take the place of the softmax's classifier (cls_score).
tools/test_net.py and tools/demo.py know by the file that it scores by SVMs (TEST.SVM). Mirrored images are learned from
where TRAIN.USE_FLIPPED is True; --set TRAIN.USE_FLIPPED False does without, as R-CNN did, in half the time.
"""

import _init_paths  # noqa: F401

import argparse
import os

from _command_line import add_flags, configure, parser_of, run


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('--def', dest='prototxt', metavar='FILE', required=True, help='test prototxt of the net')
    parser.add_argument('--net', dest='caffemodel', metavar='FILE', required=True, help='trained weights (.caffemodel)')
    parser.add_argument(
        '--imdb',
        dest='imdb_name',
        default='voc_2007_trainval',
        help='data set to train on (default: voc_2007_trainval)',
    )
    add_flags(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    for path, what in ((args.prototxt, 'test prototxt'), (args.caffemodel, 'trained weights')):
        if not os.path.isfile(path):
            raise FileNotFoundError(f'there is no {what} {path}')
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError:
        raise ImportError(
            "the package scikit-learn is missing: pip install scikit-learn (the project's extra [svm])"
        ) from None
    configure(args)

    import whole_file
    from detection_data.factory import get_imdb
    from fast_rcnn.config import cfg
    from fast_rcnn.model_card import ModelCard, add_card, match_classes, note_other_settings, read_card
    from fast_rcnn.svm import train_svms
    from fast_rcnn.test import load_net

    imdb = get_imdb(args.imdb_name)
    imdb.set_proposal_method(cfg.TRAIN.PROPOSAL_METHOD)
    card = read_card(args.caffemodel)
    match_classes(imdb, card, args.caffemodel)
    note_other_settings(card, args.caffemodel)
    print(f'Loaded dataset `{imdb.name}` for training')
    net = load_net(args.prototxt, args.caffemodel)
    path = args.caffemodel.removesuffix('.h5').removesuffix('.caffemodel') + '_svm.caffemodel'
    whole_file.check_place(path)
    train_svms(net, imdb)
    with whole_file.beside(path) as made:
        net.save(made)
        add_card(made, (card or ModelCard.of_training(imdb.classes, imdb.name)).of_svms())
    print(f'Wrote svm model to: {path}')


if __name__ == '__main__':
    run(main)
