"""`import caffe` without a Caffe: pycaffe's interface, and what Caffe computes, on PyTorch.

Knows nothing of detection. What is the same as in BVLC Caffe, what is better and what differs: docs/pycaffe.md.
"""

from caffe import layers
from caffe.blob import Blob
from caffe.device import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from caffe.glog import log
from caffe.layer import Layer, LayerError, layer_type_list
from caffe.model_file import ModelFileError
from caffe.net import Net
from caffe.proto.caffe_pb2 import TEST, TRAIN
from caffe.prototxt import PrototxtError
from caffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    SolverError,
    get_solver,
)

__version__ = '1.0.0'

__all__ = [
    'TEST',
    'TRAIN',
    'AdaDeltaSolver',
    'AdaGradSolver',
    'AdamSolver',
    'Blob',
    'Layer',
    'LayerError',
    'ModelFileError',
    'NesterovSolver',
    'Net',
    'PrototxtError',
    'RMSPropSolver',
    'SGDSolver',
    'Solver',
    'SolverError',
    'get_solver',
    'layer_type_list',
    'layers',
    'log',
    'set_device',
    'set_mode_cpu',
    'set_mode_gpu',
    'set_random_seed',
]
