"""The detector that a tool's flags name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fast_rcnn import Detector


def check_files(args: argparse.Namespace, *more: str | None) -> None:
    """Raises FileNotFoundError unless the files of --def, --net, --classes and `more` are there, if they are given."""
    for path in filter(None, (args.prototxt, args.caffemodel, args.classes, *more)):
        if not os.path.isfile(path):
            raise FileNotFoundError(f'there is no file {path}')


def load_detector(args: argparse.Namespace, thresh: float | None, unnamed: Sequence[str] | None = None) -> Detector:
    """The detector, with the settings that its weights bring, then --cfg, then --set.

    unnamed: the classes where neither --classes nor the weights name them.
    """
    from detection_data.pascal_voc import listed_classes
    from fast_rcnn import Detector
    from fast_rcnn.config import cfg_from_list
    from fast_rcnn.model_card import read_card

    names: Sequence[str] | None = None if args.classes is None else listed_classes(args.classes)
    if names is None and unnamed is not None and read_card(args.caffemodel) is None:
        names = unnamed
    detector = Detector.load(
        args.caffemodel,
        args.prototxt,
        classes=names,
        settings=args.cfg_file,
        thresh=thresh,
        proposals=args.proposals,
    )
    cfg_from_list(args.set_cfgs, detector.settings)
    return detector
