"""The names that Caffe has in its compiled module (python/caffe/_caffe.cpp): programs import from it too."""

from caffe.blob import Blob
from caffe.glog import init_log, log
from caffe.layer import Layer, layer_type_list
from caffe.net import Net
from caffe.process.device import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from caffe.process.exchange import NCCL, has_nccl
from caffe.process.ranks import (
    set_multiprocess,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)
from caffe.timer import Timer

__version__ = '1.0.0'

__all__ = [
    'NCCL',
    'AdaDeltaSolver',
    'AdaGradSolver',
    'AdamSolver',
    'Blob',
    'Layer',
    'NesterovSolver',
    'Net',
    'RMSPropSolver',
    'SGDSolver',
    'Solver',
    'Timer',
    'get_solver',
    'has_nccl',
    'init_log',
    'layer_type_list',
    'log',
    'set_device',
    'set_mode_cpu',
    'set_mode_gpu',
    'set_multiprocess',
    'set_random_seed',
    'set_solver_count',
    'set_solver_rank',
    'solver_count',
    'solver_rank',
]
