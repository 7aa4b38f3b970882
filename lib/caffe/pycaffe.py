"""The names that Caffe has in its python/caffe/pycaffe.py: programs say `from caffe.pycaffe import Net`."""

from caffe._caffe import (
    NCCL,
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    Net,
    RMSPropSolver,
    SGDSolver,
    Timer,
)

__all__ = [
    'NCCL',
    'AdaDeltaSolver',
    'AdaGradSolver',
    'AdamSolver',
    'NesterovSolver',
    'Net',
    'RMSPropSolver',
    'SGDSolver',
    'Timer',
]
