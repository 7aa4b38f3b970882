"""What pycaffe has in its module of this name (pycaffe.py): the net and the solvers."""

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
