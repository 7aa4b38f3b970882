#!/usr/bin/env python3
"""Makes a .caffemodel to start from out of weights that torchvision, timm or Keras trained on ImageNet, or of an .npz.

tools/import_weights.py vgg16-397923af.pth
tools/import_weights.py resnet50.safetensors --check cat.jpg 281
tools/import_weights.py vgg16_trunk_fp16.npz --out data/imagenet_models/VGG16_trunk.caffemodel

Takes VGG16, ResNet-50 and MobileNet-v2 in PyTorch's .pth, .safetensors and Keras's .h5, and finds out whose they are.
The first convolution is changed so that it takes BGR pixels less cfg.PIXEL_MEANS; BatchNorm is folded into the
convolutions. Where the file has ImageNet's classifier, it has to recognise a picture before anything is written.
"""

import _init_paths  # noqa: F401

import argparse
import os
from collections.abc import Sequence

import numpy as np

import whole_file
from _command_line import parser_of, run

# A photograph that comes with matplotlib, and its class of ImageNet
_SAMPLE, _SAMPLE_CLASS = 'grace_hopper.jpg', 652
_BEST = 5


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('weights', metavar='FILE', help='.pth, .pt, .bin, .safetensors, .h5 or .npz')
    parser.add_argument('--out', metavar='FILE', help='where to write (default: data/imagenet_models/<net>.caffemodel)')
    parser.add_argument(
        '--net',
        metavar='PROTOTXT',
        help='the net whose layers an .npz has, <layer>/0, <layer>/1, ... (default: found by their names)',
    )
    parser.add_argument(
        '--check',
        nargs=2,
        metavar=('PICTURE', 'CLASS'),
        help=f"a photograph, and the number of its class, 0 to 999 (default: matplotlib's {_SAMPLE}, {_SAMPLE_CLASS})",
    )
    parser.add_argument('--no_check', action='store_true', help='write without a look at a picture')
    parser.add_argument(
        '--keep_means',
        action='store_true',
        help='for pixels less the means that the weights were trained with: exact at the border of the image, too; '
        'PIXEL_MEANS has to be set to them',
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from pretrained.caffemodel import save
    from pretrained.files import read_weights
    from pretrained.importing import default_path, imported, of_detector

    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
    found = imported(read_weights(args.weights), args.weights, args.keep_means, args.net)
    layers = of_detector(found.layers)
    print(f'{args.weights}: {found.net}' + (f' of {found.source.program}' if found.source else ''))
    if found.source is not None:
        print(f'License: {found.source.license}. ImageNet itself is for research and teaching without profit')
    else:
        print('License: that of whoever made the .npz file')
    out = args.out or os.path.relpath(os.path.join(root, default_path(found.net)))
    whole_file.check_place(out, makes_folders=True)
    if not args.no_check:
        _check(found, args.check)
    save(layers, args.net or os.path.join(root, found.prototxt), out)
    print(f'Wrote {out}: {len(layers)} layers, {next(iter(layers))} to {list(layers)[-1]}')
    if args.keep_means:
        means = '[[[' + ', '.join(f'{value:g}' for value in found.means) + ']]]'
        print(f'Put this into the cfg of all that uses it: PIXEL_MEANS: {means}')
    elif found.off_at_border:
        print(
            f'At the border of an image the first convolution sees beyond it pixels that are {found.off_at_border:.3g} '
            'grey levels other than in training; --keep_means does without this'
        )


def _check(found, given: Sequence[str] | None) -> None:
    """Has the file's classifier look at a picture. Raises WeightsError if it does not see its class."""
    from pretrained import WeightsError
    from pretrained.caffemodel import filled, probabilities
    from pretrained.importing import CLASSES, SIDE, classifier_prototxt

    if found.classifier is None:
        if given is not None:
            raise WeightsError('--check: the file has no classifier of the 1000 classes of ImageNet')
        print('Not checked on a picture: the file has no classifier of the 1000 classes of ImageNet')
        return
    path, wanted = (given[0], _class(given[1])) if given else (_sample(), _SAMPLE_CLASS)
    if path is None:
        print('Not checked on a picture: matplotlib, whose photograph is used, is missing; give one with --check')
        return
    text, last = classifier_prototxt(found.net)
    net = filled(text, {**found.layers, last: list(found.classifier)}, 'the classifier')
    found_prob = probabilities(net, _centre(path, SIDE), found.means)
    order = np.argsort(-found_prob)
    place = int(np.flatnonzero(order == wanted)[0]) + 1
    said = ', '.join(f'{c} ({found_prob[c]:.2f})' for c in order[:_BEST])
    print(f'{os.path.basename(path)} is of class {wanted}, which the net puts on place {place} of {CLASSES}: {said}')
    if place > _BEST:
        raise WeightsError(
            f'class {wanted} is not among the {_BEST} that the net sees in {path}: other weights than they seem, or '
            'another class; nothing is written (--no_check does without a look)'
        )


def _class(text: str) -> int:
    if not text.isdigit() or int(text) > 999:
        raise ValueError(f'--check PICTURE CLASS: the number of a class is 0 to 999, got {text!r}')
    return int(text)


def _sample() -> str | None:
    try:
        import matplotlib
    except ImportError:
        return None
    path = os.path.join(matplotlib.get_data_path(), 'sample_data', _SAMPLE)
    return path if os.path.isfile(path) else None


def _centre(path: str, side: int) -> np.ndarray:
    """The picture's centre, `side` pixels of a shorter side of 8/7 of it, as ImageNet's nets are tested."""
    import cv2

    from detection_data.image_file import read_image

    image = read_image(path)
    scale = side * 8 / 7 / min(image.shape[:2])
    size = (max(side, round(image.shape[1] * scale)), max(side, round(image.shape[0] * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


if __name__ == '__main__':
    run(main)
