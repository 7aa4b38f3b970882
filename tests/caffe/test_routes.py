"""No layer on the hot path may reach oneDNN's reference code, a thousand times slower, by any way it can take.

oneDNN has kernels for some layouts of a matrix and plain loops for the others; a net that met these stood still.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from caffe.kernels import convolution, matrix, nnpack
from caffe.kernels.processor import has_fast_bf16

HERE = Path(__file__).parent
LIB = HERE.parents[1] / 'lib'

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason='this torch has no oneDNN')


def implementations(output):
    """(case, primitive, implementation, the rest) of each line that oneDNN wrote while a case ran."""
    case = None
    for line in output.splitlines():
        fields = line.split(',')
        if line.startswith('== '):
            case = line[3:]
        elif fields[0] in ('onednn_verbose', 'dnnl_verbose') and 'exec' in fields:
            at = fields.index('exec')
            yield case, fields[at + 2], fields[at + 3], ','.join(fields[at + 4 :])


def is_reference(implementation):
    """Of names such as 'ref:any' and 'gemm:ref', and not 'jit:avx512_core'."""
    return any(part.startswith('ref') for part in implementation.split(':'))


@pytest.fixture(scope='module')
def done():
    """What oneDNN did for each hot layer by each way. A process of its own: it has to be told before it starts."""
    env = {**os.environ, 'ONEDNN_VERBOSE': '1', 'PYTHONPATH': os.pathsep.join([str(LIB), str(HERE)])}
    run = subprocess.run(
        [sys.executable, str(HERE / 'hot_layers.py')], capture_output=True, text=True, env=env, timeout=600, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert '== the end' in run.stdout.splitlines()
    return list(implementations(run.stdout))


def test_no_way_of_a_hot_layer_reaches_reference_code(done):
    assert {line for line in done if is_reference(line[2])} == set()


def test_each_way_was_really_taken(done):
    def used(way):
        return {primitive for case, primitive, *_ in done if case.endswith(way)}

    assert 'convolution' in used('convolutions direct')

    def convolutions(way):
        case = f'Convolution 3x3; products by torch, convolutions {way}'
        return [primitive for name, primitive, *_ in done if name == case].count('convolution')

    assert convolutions('winograd') == 0
    if nnpack.is_there():  # only the gradient of the weights is left
        assert convolutions('nnpack') < convolutions('direct')
    if 'onednn' in matrix.routes.names:
        products = {'inner_product', 'matmul'}
        case = 'InnerProduct, many rows; products by onednn, convolutions direct'
        assert products & {line[1] for line in done if line[0] == case}


@pytest.mark.skipif(not has_fast_bf16(), reason='this processor has no fast bf16')
def test_the_backward_pass_of_bf16_is_bf16(done):
    backward = {
        rest.split(',')[0]: ('src:bf16' in rest, 'wei:bf16' in rest)
        for case, primitive, _, rest in done
        if case == 'Convolution 3x3; bf16' and primitive == 'convolution'
    }
    assert backward == dict.fromkeys(['forward_training', 'backward_data', 'backward_weights'], (True, True))
    products = [rest for case, primitive, _, rest in done if case == 'InnerProduct, many rows; bf16']
    assert len(products) >= 3 and all('bf16' in rest for rest in products)


def test_a_line_of_reference_code_is_recognised():
    line = (
        'onednn_verbose,v1,primitive,exec,cpu,inner_product,ref:any,forward_inference,'
        'src:f32::blocked:ab::f0 wei:f32::blocked:ab:6272x1:f0,attr-scratchpad:user,,mb64ic1568oc512,5650'
    )
    ((case, primitive, implementation, rest),) = implementations(f'== fc6\n{line}')
    assert (case, primitive) == ('fc6', 'inner_product')
    assert is_reference(implementation)
    assert rest.startswith('forward_inference,src:f32')
    assert is_reference('gemm:ref')
    assert not is_reference('x64:gemm:jit')


def test_there_are_ways_to_choose_among():
    assert matrix.routes.names[0] == 'torch'
    nnpacks = ['nnpack'] if nnpack.is_there() else []
    assert convolution.routes.names == ('direct', 'bands', 'winograd', 'pointwise', *nnpacks)
