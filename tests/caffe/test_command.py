"""`python -m caffe`: the commands, from a user's side."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.__main__ import main
from caffe.command import device
from caffe.command.table import mebibytes, quantity, table
from caffe.files.model_file import read_weights
from caffe.kernels import convolution, matrix
from caffe.proto import caffe_pb2

NET = """name: "small"
layer { name: "data" type: "DummyData" top: "data" top: "label"
        dummy_data_param { shape { dim: [4, 3, 6, 6] } shape { dim: 4 }
                           data_filler { type: "gaussian" } data_filler { type: "constant" value: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy"
        include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "extra" type: "Silence" bottom: "ip" include { stage: "more" min_level: 2 } }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 6 display: 2 snapshot_prefix: "out"
            random_seed: 1 solver_mode: CPU """


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('GLOG_minloglevel', '0')
    Path('net.prototxt').write_text(NET)
    Path('solver.prototxt').write_text(SOLVER)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGHUP)]
    yield tmp_path
    for number, handler in zip((signal.SIGINT, signal.SIGHUP), handlers, strict=True):
        signal.signal(number, handler)


def messages(text):
    """The log lines without date, process and place."""
    return [line.split('] ', 1)[1] for line in text.splitlines() if re.match(r'[IWE]\d{4} ', line)]


def layers(path):
    return {name: blobs for name, _, blobs in read_weights(path)}


# -- train


def test_train_runs_to_max_iter_and_saves(capfd):
    assert main(['train', '--solver', 'solver.prototxt']) == 0
    log = messages(capfd.readouterr().err)
    assert log[:2] == ['Use CPU.', 'Starting Optimization']
    assert 'Snapshotting to binary proto file out_iter_6.caffemodel' in log
    assert log[-1] == 'Optimization Done.'
    assert Path('out_iter_6.solverstate').exists()


def test_flags_with_one_dash_and_equals_signs_as_gflags_takes_them():
    assert main(['train', '-solver=solver.prototxt']) == 0
    assert main(['test', '-model', 'net.prototxt', '-weights=out_iter_6.caffemodel', '-iterations', '1']) == 0


def test_train_goes_on_from_a_snapshot(capfd):
    main(['train', '--solver', 'solver.prototxt'])
    Path('longer.prototxt').write_text(SOLVER.replace('max_iter: 6', 'max_iter: 8'))
    assert main(['train', '--solver', 'longer.prototxt', '--snapshot', 'out_iter_6.solverstate']) == 0
    log = messages(capfd.readouterr().err)
    assert 'Resuming from out_iter_6.solverstate' in log
    assert Path('out_iter_8.caffemodel').exists()


def test_train_starts_from_weights_the_later_file_winning(capfd):
    net = caffe.Net('net.prototxt', caffe.TEST)
    net.params['ip'][1].data[...] = 5
    net.save('a.caffemodel')
    net.params['ip'][1].data[...] = 7
    net.save('b.caffemodel')
    Path('solver.prototxt').write_text(SOLVER + 'train_state { }')
    Path('still.prototxt').write_text(SOLVER.replace('base_lr: 0.01', 'base_lr: 0'))
    weights = 'a.caffemodel,b.caffemodel'
    assert main(['train', '--solver', 'still.prototxt', '--weights', weights]) == 0
    assert 'Finetuning from b.caffemodel' in messages(capfd.readouterr().err)
    np.testing.assert_array_equal(layers('out_iter_6.caffemodel')['ip'][1].data, [7, 7, 7])


def test_train_takes_level_and_stages():
    assert main(['train', '--solver', 'solver.prototxt']) == 0
    assert 'extra' not in layers('out_iter_6.caffemodel')
    assert main(['train', '--solver', 'solver.prototxt', '--level', '2', '--stage', 'more,other']) == 0
    assert 'extra' in layers('out_iter_6.caffemodel')


@pytest.mark.parametrize(
    ('mode', 'flag', 'want'),
    [
        ('solver_mode: CPU', [], 'cpu'),
        ('solver_mode: GPU', [], 'no CUDA GPU'),
        ('solver_mode: GPU device_id: 3', ['--gpu', 'cpu'], 'cpu'),
        ('solver_mode: CPU', ['--gpu', '0'], 'no CUDA GPU'),
        ('', [], 'cpu'),  # GPU is the default, but nobody has asked for it
    ],
)
def test_the_device_is_the_flag_s_then_the_solver_s(mode, flag, want, capfd, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    Path('solver.prototxt').write_text(SOLVER.replace('solver_mode: CPU', mode))
    status = main(['train', '--solver', 'solver.prototxt', *flag])
    text = capfd.readouterr().err
    assert (status, 'Use CPU.' in text) == ((0, True) if want == 'cpu' else (1, False))
    assert want == 'cpu' or want in text


def test_device_id_is_honoured(capfd, monkeypatch):
    chosen = []
    monkeypatch.setattr('caffe.set_device', chosen.append)
    monkeypatch.setattr('caffe.set_mode_gpu', lambda: None)
    Path('solver.prototxt').write_text(SOLVER.replace('solver_mode: CPU', 'solver_mode: GPU device_id: 3'))
    assert main(['train', '--solver', 'solver.prototxt']) == 0
    assert main(['train', '--solver', 'solver.prototxt', '--gpu', '1']) == 0
    assert chosen == [3, 1]
    assert 'Using GPUs 3' in messages(capfd.readouterr().err)


def start_training(*flags):
    """A training process without end, once it is under way."""
    Path('solver.prototxt').write_text(SOLVER.replace('max_iter: 6', 'max_iter: 100000000'))
    process = subprocess.Popen(
        [sys.executable, '-m', 'caffe', 'train', '--solver', 'solver.prototxt', *flags],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {'PYTHONPATH': str(Path(caffe.__file__).parent.parent), 'OMP_NUM_THREADS': '1'},
    )
    for line in process.stderr:
        if 'Iteration 2, loss' in line:
            return process
    raise AssertionError('training did not start')


def wait_for(pattern, seconds=300):
    end = time.monotonic() + seconds
    while not list(Path().glob(pattern)) and time.monotonic() < end:
        time.sleep(0.02)
    return list(Path().glob(pattern))


def test_ctrl_c_stops_after_the_iteration_and_a_hang_up_saves():
    process = start_training()
    process.send_signal(signal.SIGHUP)
    (saved,) = wait_for('out_iter_*.solverstate')
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    log = messages(process.communicate(timeout=300)[1])
    assert process.returncode == 0
    assert log[-2:] == ['Optimization stopped early.', 'Optimization Done.']
    last = max(Path().glob('out_iter_*.solverstate'), key=lambda p: int(p.stem.split('_')[-1]))
    assert last != saved  # snapshot_after_train saves where it stopped


@pytest.mark.parametrize('redirection', ['2>&-', '>&- 2>&-', '2>/dev/full', '2>&1 | true'])
def test_training_goes_on_without_its_log(redirection):
    Path('solver.prototxt').write_text(SOLVER)
    command = f'set -o pipefail; "{sys.executable}" -m caffe train --solver solver.prototxt {redirection}'
    done = subprocess.run(
        ['bash', '-c', command], env=os.environ | {'PYTHONPATH': str(Path(caffe.__file__).parent.parent)}, timeout=300
    )
    assert done.returncode == 0
    assert Path('out_iter_6.caffemodel').exists()


def test_signal_effects_are_chosen_by_flags():
    process = start_training('--sigint_effect', 'snapshot', '--sighup_effect', 'none')
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    assert wait_for('out_iter_*.solverstate')
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGTERM


# -- test, time, summary


def test_test_logs_each_batch_the_loss_and_the_means(capfd):
    net = caffe.Net('net.prototxt', caffe.TEST)
    for blob in (*net.params['conv'], *net.params['ip']):
        blob.data[...] = 0
    net.params['ip'][1].data[...] = [0, 1, 0]  # class 1, which all labels are: e / (e + 2) of the probability
    net.save('w.caffemodel')
    assert main(['test', '--model', 'net.prototxt', '--weights', 'w.caffemodel', '--iterations', '2']) == 0
    log = messages(capfd.readouterr().err)
    assert log == [
        'Use CPU.',
        'Running for 2 iterations.',
        'Batch 0, accuracy = 1',
        'Batch 0, loss = 0.551445',
        'Batch 1, accuracy = 1',
        'Batch 1, loss = 0.551445',
        'Loss: 0.551445',
        'accuracy = 1',
        'loss = 0.551445 (* 1 = 0.551445 loss)',
    ]
    np.testing.assert_allclose(-np.log(np.e / (np.e + 2)), 0.551445, atol=1e-6)


def test_time_measures_each_layer_and_its_arithmetic(capfd):
    assert main(['time', '--model', 'net.prototxt', '--iterations', '2']) == 0
    out, err = capfd.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ['layer', 'type', 'tops', 'forward', 'ms', 'GFLOP/s', 'backward', 'ms', 'GFLOP/s']
    rows = {line[0]: line for line in lines[2:] if line}
    assert len(rows['conv']) == 7  # name, type, top, and both times with their speeds
    assert len(rows['relu']) == 5  # without arithmetic to count
    assert len(rows['data']) == 5  # two tops, and only forward
    assert 'accuracy' not in rows  # the phase is TRAIN
    log = messages(err)
    assert [line.split(':')[0] for line in log[-5:-1]] == [
        'Average Forward pass', 'Average Backward pass', 'Average Forward-Backward', 'Total Time',
    ]  # fmt: skip


DEPLOY = NET.replace('layer { name: "loss"', 'layer { include { stage: "never" } name: "loss"')


def test_time_goes_backward_through_a_deploy_net_as_caffes_tool_does(capfd):
    """Through what learns, and what stands on it; a layer that has no gradient has no time."""
    Path('deploy.prototxt').write_text(
        f'{DEPLOY} layer {{ name: "large" type: "Threshold" bottom: "ip" top: "large" }}'
        'layer { name: "shrunk" type: "Power" bottom: "data" top: "shrunk" power_param { scale: 0.1 } }'
    )
    assert main(['time', '--model', 'deploy.prototxt', '--iterations', '1']) == 0
    rows = {line.split()[0]: line.split() for line in capfd.readouterr().out.splitlines()[2:] if line}
    assert len(rows['conv']) == 7
    assert len(rows['ip']) == 7
    assert len(rows['relu']) == 5
    assert len(rows['large']) == 4  # name, type, top, forward
    assert len(rows['shrunk']) == 5  # and its arithmetic: nothing in it or before it learns


def test_time_says_why_nothing_goes_backward(capfd):
    frozen = DEPLOY.replace('_param { num_output', '_param { bias_term: false num_output')
    frozen = re.sub(r'(name: "(conv|ip)")', r'\1 param { lr_mult: 0 }', frozen)
    Path('deploy.prototxt').write_text(frozen)
    assert main(['time', '--model', 'deploy.prototxt', '--iterations', '1']) == 0
    assert 'Nothing goes backward' in capfd.readouterr().out


def test_summary_has_shapes_parameters_memory_and_work(capfd):
    assert main(['summary', 'net.prototxt']) == 0
    out = capfd.readouterr().out
    rows = {line.split()[0]: line.split() for line in out.splitlines()[3:] if line}
    # 4 images, 2 x 4 x 4 numbers each, of 3 x 3 x 3 taps: 3456 products; 2 x 3 x 3 x 3 + 2 parameters
    assert rows['conv'] == ['conv', 'Convolution', '4x2x4x4', '2x3x3x3', '2', '56', '0.00', '3.46', 'K']
    assert rows['relu'] == ['relu', 'ReLU', '4x2x4x4']  # in place: no memory
    assert rows['ip'] == ['ip', 'InnerProduct', '4x3', '3x32', '3', '99', '0.00', '384']
    assert rows['6'] == ['6', 'layers', '155', '0.00', '3.84', 'K']
    assert not any('_split' in name for name in rows)


def test_summary_counts_shared_parameters_once(capfd):
    param = 'param { name: "w" } param { name: "b" }'
    options = 'inner_product_param { num_output: 3 } '
    Path('net.prototxt').write_text(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [2, 3] }} }} }}
        layer {{ name: "a" type: "InnerProduct" bottom: "x" top: "a" {param} {options} }}
        layer {{ name: "b" type: "InnerProduct" bottom: "a" top: "b" {param} {options} }}""")
    main(['summary', 'net.prototxt'])
    out = capfd.readouterr().out
    assert re.search(r'^b .* 3x3 3 \(shared\)', out, re.MULTILINE)
    assert re.search(r'^3 layers +12 ', out, re.MULTILINE)


def test_summary_says_which_layers_have_no_backward_pass_and_why(capfd):
    main(['summary', 'net.prototxt', '--phase', 'TRAIN'])
    out = capfd.readouterr().out
    assert out.splitlines()[-2:] == ['No backward pass:', '  data: nothing to learn: it has no parameters']
    text = Path('net.prototxt').read_text()
    Path('net.prototxt').write_text(text[: text.index('layer { name: "loss"')])
    main(['summary', 'net.prototxt', '--phase', 'TRAIN'])
    assert capfd.readouterr().out.endswith(
        'No layer has a backward pass: the net has no loss, or nothing in it learns.\n'
    )


def test_layers_of_one_name_have_a_row_each(capfd):
    """Caffe lets two layers have one name; many published prototxts name a ReLU twice."""
    Path('net.prototxt').write_text("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 3] } } }
        layer { name: "relu" type: "ReLU" bottom: "x" top: "a" }
        layer { name: "relu" type: "ReLU" bottom: "a" top: "b" }""")
    for words in (['summary', 'net.prototxt'], ['time', '--model', 'net.prototxt', '--iterations', '1']):
        assert main(words) == 0
        assert len(re.findall('^relu ', capfd.readouterr().out, re.MULTILINE)) == 2


def test_numbers_are_short():
    assert [quantity(n) for n in (0, 7, 815, 999, 1000, 12345, 999_600, 4.567e9)] == [
        '', '7', '815', '999', '1 K', '12.3 K', '1 M', '4.57 G',
    ]  # fmt: skip
    assert [mebibytes(n) for n in (0, 2**19, 2**20 * 12.34, 2**20 * 392.4)] == ['0.00', '0.50', '12.3', '392']


def test_columns_are_aligned():
    assert table(['a', 'n'], [['x', '1'], ['long', '10']], ['2', '11'], left=1).splitlines() == [
        'a      n',
        '--------',
        'x      1',
        'long  10',
        '--------',
        '2     11',
    ]


# -- upgrade


def test_upgrade_of_an_old_net_and_of_an_old_solver(capfd):
    Path('v1.prototxt').write_text(
        'input: "x" input_dim: [1, 3, 8, 8]\n'
        'layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 2\n'
        '         convolution_param { num_output: 4 kernel_size: 3 } }\n'
    )
    assert main(['upgrade', 'v1.prototxt', 'v2.prototxt']) == 0
    out = capfd.readouterr().out
    assert "upgraded: its layers are in the second format (V1, 'layers { type: NAME }')" in out
    net = text_format.Parse(Path('v2.prototxt').read_text(), caffe_pb2.NetParameter())
    assert [(layer.name, layer.type) for layer in net.layer] == [('input', 'Input'), ('c', 'Convolution')]
    assert net.layer[1].param[0].lr_mult == 2
    Path('old.prototxt').write_text('net: "v2.prototxt" solver_type: ADAM')
    assert main(['upgrade', 'old.prototxt', 'new.prototxt']) == 0
    assert Path('new.prototxt').read_text() == 'net: "v2.prototxt"\ntype: "Adam"\n'
    assert 'new.prototxt: the solver\n' in capfd.readouterr().out


def test_upgrade_of_a_binary_net_keeps_its_numbers(capfd):
    old = caffe_pb2.NetParameter(name='old')
    layer = old.layers.add(name='ip', type=caffe_pb2.V1LayerParameter.INNER_PRODUCT)
    layer.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    Path('old.caffemodel').write_bytes(old.SerializeToString())
    assert main(['upgrade', 'old.caffemodel', 'new.caffemodel']) == 0
    ((name, kind, (blob,)),) = read_weights('new.caffemodel')
    assert (name, kind, blob.data.ravel().tolist()) == ('ip', 'InnerProduct', list(range(6)))


def test_upgrade_of_what_is_new_already(capfd):
    assert main(['upgrade', 'net.prototxt', 'same.prototxt']) == 0
    assert 'which was in the present format already' in capfd.readouterr().out
    caffe.Net('same.prototxt', caffe.TEST)


# -- errors: one line, status 1


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ('train --solver nix.prototxt', r'error: no such prototxt .*nix\.prototxt'),
        ('train --solver net.prototxt', r'net\.prototxt:1:1: SolverParameter has no field "name"'),
        ('train --solver solver.prototxt --gpu 0,0', r'--gpu 0,0 names a GPU twice'),
        ('train --solver solver.prototxt --gpu x', r"--gpu takes the number of a GPU.* given 'x'"),
        ('train --solver solver.prototxt --weights a --snapshot b', r'--snapshot: not allowed with'),
        ('train --solver solver.prototxt --sigint_effect halt', r"invalid choice: 'halt'"),
        ('train', r'required: --solver'),
        ('test --model net.prototxt --weights nix', r'no such file, where a \.caffemodel is expected'),
        ('test --model net.prototxt --weights net.prototxt', r'net\.prototxt: a text file, where'),
        ('time --model net.prototxt --iterations 0', r"a whole number above 0 is expected, not '0'"),
        ('summary nix', r'no such prototxt'),
        ('upgrade nix new', r'nix'),
        ('upgrade bad.prototxt new', r'bad\.prototxt:2:3: .*"lair"; did you mean "layer"'),
        ('upgrade bad.bin new', r'bad\.bin: neither a prototxt nor a binary net'),
        ('unheard', r"invalid choice: 'unheard'"),
        ('', r'required: command'),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_status_1(words, message, capfd):
    Path('bad.prototxt').write_text('name: "x"\n  lair { }\n')
    Path('bad.bin').write_bytes(b'\xff\0\xff\0')
    try:
        status = main(words.split())
    except SystemExit as stop:
        status = stop.code
    out, err = capfd.readouterr()
    assert status == 1 and out == ''
    (line,) = [line for line in err.splitlines() if not re.match(r'[IWE]\d{4} ', line)]
    assert re.match('caffe[ a-z]*: error: ', line) and re.search(message, line)


def test_an_error_of_a_layer_names_its_line(capfd):
    Path('net.prototxt').write_text(NET.replace('bottom: "conv" top: "ip"', 'bottom: "konv" top: "ip"'))
    assert main(['summary', 'net.prototxt']) == 1
    err = capfd.readouterr().err
    assert "net.prototxt:8: layer 'ip' (InnerProduct): Unknown bottom blob 'konv'" in err


def test_debug_shows_the_traceback(capfd):
    assert main(['summary', 'nix', '--debug']) == 1
    assert 'Traceback' in capfd.readouterr().err


# -- device


def test_device_shows_the_processor_and_each_way_to_compute(capfd):
    assert main(['device', '--quick']) == 0
    out = capfd.readouterr().out
    assert out.startswith('processor: ')
    ways = [line.split()[-3] for line in out.splitlines() if line.endswith('GFLOP/s')]
    of_3x3 = [way for way in convolution.routes.names if way != 'pointwise']  # nnpack where torch has it
    of_1x1 = ['direct', 'bands', 'pointwise']
    assert [way for way in ways if way != 'chosen'] == [*matrix.routes.names, *2 * of_3x3, *of_1x1]
    assert ways.count('chosen') == 4
    assert 'RoI pooling, 128 RoIs, 32 channels, 7x7' in out


@pytest.mark.parametrize(('load', 'words'), [(0.1, 'GPU'), (9.5, 'Other programs are at work (load average 9.5)')])
def test_device_says_that_other_programs_are_at_work(load, words, monkeypatch):
    monkeypatch.setattr(os, 'getloadavg', lambda: (load, 0, 0))
    assert device.description()[-1].startswith(words)


def test_device_warns_of_a_way_that_is_far_slower_and_of_a_rule_that_chose_it():
    speeds = {'chosen': 2.0, 'direct': 2.0, 'bands': 400.0}
    slow, chosen = device.warnings_of('convolution', speeds)
    assert "'direct' is 200 times slower than 'bands'" in slow
    assert "'bands' is 200.0 times faster than what was chosen" in chosen
    assert device.warnings_of('convolution', {'chosen': 390.0, 'direct': 200.0, 'bands': 400.0}) == []
    assert device.warnings_of('RoI pooling', {'chosen': 1.0}) == []


@pytest.mark.parametrize(
    'given, status, said',
    [
        (['--help'], 0, 'print layers, shapes, parameters, memory and work of a net'),
        (['-help'], 0, 'print layers, shapes, parameters, memory and work of a net'),
        ([], 1, 'caffe: error: the following arguments are required: command'),
        (['trian', '-solver', 'x'], 1, "caffe: error: argument command: invalid choice: 'trian'"),
    ],
)
def test_without_a_command_torch_is_not_even_loaded(given, status, said, tmp_path):
    """A module that ends the process stands in for torch, so the answer came before."""
    Path('torch.py').write_text('import os; os._exit(9)')
    path = os.pathsep.join([str(tmp_path), str(Path(caffe.__file__).parent.parent)])
    command = [sys.executable, '-m', 'caffe', *given]
    done = subprocess.run(command, env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == status
    assert said in done.stdout + done.stderr


def test_without_torch_one_line_says_which_environment_is_needed(tmp_path):
    Path('torch.py').write_text('raise ModuleNotFoundError("No module named \'torch\'", name="torch")')
    path = os.pathsep.join([str(tmp_path), str(Path(caffe.__file__).parent.parent)])
    command = [sys.executable, '-m', 'caffe', 'device']
    done = subprocess.run(command, env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(
        "caffe: error: No module named 'torch': (this needs )?the project.s environment.*\n",
        done.stderr,
    )
