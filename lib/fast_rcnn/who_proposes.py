"""Whether a net proposes boxes itself, by its prototxt: asked before proposals are missed that it does not need."""

import os
import re

from fast_rcnn.config import ConfigError, cfg
from fast_rcnn.solver_file import read_solver

_IMAGE_SIZES = re.compile(r'\b(?:top|input)\s*:\s*["\']im_info["\']')  # what an RPN cannot do without


def check_training(solver_prototxt: str) -> None:
    """Raises ConfigError if the net that a solver trains has an RPN, and cfg.TRAIN.HAS_RPN is False."""
    param = read_solver(solver_prototxt)
    net = param.net or param.train_net
    if os.path.isfile(net):  # else the solver says what is wrong
        _check(net, 'TRAIN')


def check_testing(prototxt: str) -> None:
    """Raises ConfigError if the net of a test prototxt has an RPN, and cfg.TEST.HAS_RPN is False."""
    _check(prototxt, 'TEST')


def _check(prototxt: str, phase: str) -> None:
    with open(prototxt, encoding='utf-8-sig', errors='replace') as stream:
        text = re.sub('#.*', '', stream.read())
    if _IMAGE_SIZES.search(text) and not cfg[phase].HAS_RPN:
        raise ConfigError(
            f'{prototxt}: the net has the input im_info, so it proposes boxes itself: set {phase}.HAS_RPN True, as '
            'experiments/cfgs/faster_rcnn_end2end.yml does'
        )
