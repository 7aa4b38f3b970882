"""`import caffe` without a Caffe: pycaffe's interface, and what Caffe computes, on PyTorch.

Knows nothing of detection. What is the same as in Caffe, what is better and what differs: docs/pycaffe.md.
"""

import sys

from command_line import environment, interrupts

# While Python looks for the module of `python -m caffe`, sys.argv is ['-m', flags ...]; the module stands before these
if sys.argv[:1] == ['-m'] and sys.orig_argv[-len(sys.argv)] in ('caffe', '-mcaffe', 'caffe.__main__'):
    from caffe.command import words

    interrupts.end_at_once('caffe')  # until caffe.__main__.main
    words.end_without_a_command(sys.argv[1:])
    environment.say_what_is_missing('caffe')

from caffe.process import threads

if threads.how_to_wait_is_open():
    threads.load_torch_with_threads_that_spin_briefly()  # before anything else loads it

from caffe import io, layers, pil_image
from caffe._caffe import (
    Blob,
    Layer,
    Solver,
    __version__,
    get_solver,
    has_nccl,
    init_log,
    layer_type_list,
    log,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffe.classifier import Classifier
from caffe.detector import Detector
from caffe.files.model_file import ModelFileError
from caffe.files.prototxt import PrototxtError
from caffe.kernels import host_memory
from caffe.layer import LayerError
from caffe.net_spec import NetSpec, params, to_proto
from caffe.process.forking import use_one_thread_in_forked_children
from caffe.process.precision import get_precision, set_precision
from caffe.proto.caffe_pb2 import TEST, TRAIN
from caffe.pycaffe import (
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
from caffe.solver import SolverError

use_one_thread_in_forked_children()
threads.use_no_more_threads_than_allowed()
host_memory.keep_freed()
pil_image.offer()

__all__ = [
    'NCCL',
    'TEST',
    'TRAIN',
    'AdaDeltaSolver',
    'AdaGradSolver',
    'AdamSolver',
    'Blob',
    'Classifier',
    'Detector',
    'Layer',
    'LayerError',
    'ModelFileError',
    'NesterovSolver',
    'Net',
    'NetSpec',
    'PrototxtError',
    'RMSPropSolver',
    'SGDSolver',
    'Solver',
    'SolverError',
    'Timer',
    '__version__',
    'get_precision',
    'get_solver',
    'has_nccl',
    'init_log',
    'io',
    'layer_type_list',
    'layers',
    'log',
    'params',
    'set_device',
    'set_mode_cpu',
    'set_mode_gpu',
    'set_multiprocess',
    'set_precision',
    'set_random_seed',
    'set_solver_count',
    'set_solver_rank',
    'solver_count',
    'solver_rank',
    'to_proto',
]
