"""Reading prototxts: errors that say where, line numbers, upgrades of old forms, and the messages."""

import copy
import hashlib
import random
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, text_format

from caffe.files.prototxt import PrototxtError, layer_lines, parse, read_net, read_solver, upgraded
from caffe.files.upgrade import upgrade_net
from caffe.proto import caffe_descriptor, caffe_pb2

PROTO = Path(caffe_descriptor.__file__).parent / 'caffe.proto'

NET = """\
name: "small"  # layer { in a comment
layer {
  name: "data # not a comment {"
  type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 } }
}

layer { name: 'fc' type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 2 } }
layer
{
  name: "relu" type: "ReLU" bottom: "fc" top: "fc" }
"""


def net_of(text):
    return parse(text, caffe_pb2.NetParameter(), 'test.prototxt')


def upgrade(text):
    """The net in the text, in today's form, as text."""
    return text_format.MessageToString(upgrade_net(net_of(text)).message)


def same(text):
    return text_format.MessageToString(net_of(text))


@pytest.fixture
def write(tmp_path):
    def write(content, name='net.prototxt'):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


# ---- the messages


def test_messages_live_beside_another_caffe_proto():
    other = descriptor_pb2.FileDescriptorProto(name='caffe.proto', package='caffe')
    other.message_type.add(name='NetParameter').field.add(name='theirs', number=1, type=9, label=1)
    descriptor_pool.Default().AddSerializedFile(other.SerializeToString())
    theirs = descriptor_pool.Default().FindMessageTypeByName('caffe.NetParameter')
    assert [field.name for field in theirs.fields] == ['theirs']
    assert 'layer' in caffe_pb2.NetParameter.DESCRIPTOR.fields_by_name


def test_names_of_a_generated_module():
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1)
    assert caffe_pb2.Phase.Name(1) == 'TEST'
    assert caffe_pb2.PoolingParameter.AVE == caffe_pb2.PoolingParameter.PoolMethod.Value('AVE') == 1
    assert caffe_pb2.DESCRIPTOR.package == 'caffe'
    net = net_of(NET)
    assert isinstance(net.layer[0], caffe_pb2.LayerParameter)
    assert copy.deepcopy(net) == net
    assert caffe_pb2.NetParameter.FromString(net.SerializeToString()) == net


def test_fields_of_the_fast_rcnn_fork():
    layer = caffe_pb2.LayerParameter()
    number = {name: field.number for name, field in layer.DESCRIPTOR.fields_by_name.items()}
    assert (number['roi_pooling_param'], number['smooth_l1_loss_param']) == (8266711, 8266712)
    roi, loss = layer.roi_pooling_param, layer.smooth_l1_loss_param
    assert (roi.pooled_h, roi.pooled_w, roi.spatial_scale, loss.sigma) == (0, 0, 1, 1)


def test_compiled_messages_are_those_of_caffe_proto():
    assert hashlib.sha256(PROTO.read_bytes()).hexdigest() == caffe_descriptor.SOURCE_SHA256, (
        'caffe.proto was edited: run python lib/caffe/proto/compile.py'
    )


# ---- where layers stand


def test_layer_lines_ignore_comments_and_strings():
    assert layer_lines(NET) == [2, 8, 10]


def test_layer_lines_of_other_spellings():
    assert layer_lines('layer: {\n}\nlayers <\n>\nlayer: [{\n},\n{ }]') == [1, 3, 5, 7]


def test_read_net_says_where(write):
    path = write(NET)
    net, source = read_net(path)
    assert [layer.name for layer in net.layer] == ['data # not a comment {', 'fc', 'relu']
    assert [source.where(i) for i in range(3)] == [f'{path}:2', f'{path}:8', f'{path}:10']
    assert source.where(3) == path
    assert source.notes == []


def test_lines_stay_right_when_layers_come_and_go(write):
    path = write("""\
layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "data" top: "padded" }
layers { layer { name: "conv" type: "conv" kernelsize: 3 } bottom: "padded" top: "conv" }
input: "data"
input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { layer { name: "relu" type: "relu" } bottom: "conv" top: "conv" }
""")
    net, source = read_net(path)
    assert [(layer.name, source.where(i)) for i, layer in enumerate(net.layer)] == [
        ('input', f'{path}:3'),
        ('conv', f'{path}:2'),
        ('relu', f'{path}:5'),
    ]
    assert len(source.notes) == 3


# ---- errors


@pytest.mark.parametrize(
    'text, message',
    [
        (
            'layer {\n  convoluton_param {} }',
            ':2:3: LayerParameter has no field "convoluton_param"; did you mean "convolution_param"?',
        ),
        (
            'layer { type: "ReLU"\nlayer { type: "TanH" }',
            ':2:1: LayerParameter has no field "layer": is the brace before it not closed?',
        ),
        (
            'layer { pooling_param { pool: AVG } }',
            ':1:31: PoolingParameter.PoolMethod has no value "AVG"; did you mean "AVE"?',
        ),
        (
            'layer { include { phase: LEARN } }',
            ':1:26: Phase has no value "LEARN"; there are TRAIN, TEST',
        ),
        (
            'layer { type: CONVOLUTION }',
            ':1:15: a string stands in quotes: "Convolution", not CONVOLUTION',
        ),
        (
            'layers { type: "ReLU" }',
            ':1:16: V1LayerParameter.LayerType (a name without quotes) has no value "ReLU"; did you',
        ),
        (
            'layer {\n name: "a" name: "b" }',
            ':2:18: Message type "caffe.LayerParameter" should not have multiple',
        ),
        ('layer { name: "a }', 'String missing ending quote'),
        (
            'layer { name: "a type: "ReLU" }',
            ':1:25: LayerParameter has no field "ReLU": it follows a string at once: is a quote missing before it',
        ),
        ('layer { name: "a" }\n}', ':2:1: Expected identifier or number, got }: a closing brace too many'),
        (
            'layer { name: "a" }\nrelu_param { } }',
            ':2:1: NetParameter has no field "relu_param": it is a field of a layer: is there a closing brace too many',
        ),
        ('layer { name: "a"', 'a brace that is opened is never closed'),
        ('layer { convolution_param { kernel_size: 3.5 } }', ":1:42: kernel_size: Couldn't parse integer: 3.5"),
        (
            'layer { convolution_param {\n num_output: -1 } }',
            ':2:14: num_output: Value out of range: -1; it takes a whole number from 0 to 4294967295',
        ),
        (
            'layer { convolution_param { stride: [\n2,\n-1] } }',
            ':3:1: stride: Value out of range: -1; it takes a whole number from 0 to 4294967295',
        ),
        ('layer { loss_weight: one }', ":1:22: loss_weight: Couldn't parse float: one; it takes a number"),
        ('force_backward: maybe', ':1:17: force_backward: Expected "true" or "false"'),
        (
            'name: "a"\n\nlayer { clip_param { min: 0 } }',
            ':3: missing required field: layer[0].clip_param.max',
        ),
    ],
)
def test_error_says_where_and_what(text, message):
    with pytest.raises(PrototxtError) as error:
        net_of(text)
    assert str(error.value).startswith('test.prototxt:')
    assert message in str(error.value)


def test_error_has_parts():
    with pytest.raises(PrototxtError) as error:
        net_of('name: "a"\nlair { }')
    assert (error.value.file, error.value.line, error.value.column) == ('test.prototxt', 2, 1)
    assert error.value.reason == 'NetParameter has no field "lair"; did you mean "layer"?'


def test_files_that_are_no_prototxt(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no such prototxt.*missing\.prototxt'):
        read_net('missing.prototxt')
    with pytest.raises(IsADirectoryError, match='a folder, where a prototxt is expected'):
        read_net(tmp_path)
    with pytest.raises(PrototxtError, match='binary file'):
        read_net(write(b'\n\x05small\xa2\x06\x00\x00'))
    with pytest.raises(PrototxtError, match='UTF-16'):
        read_net(write(NET.encode('utf-16')))
    with pytest.raises(PrototxtError, match='not a prototxt'):
        read_net(write(b'#' * (9 * 2**20)))


def test_bytes_that_are_no_utf8_are_fine_in_comments_only(write):
    assert read_net(write('\ufeff# caf\xe9\n'.encode() + b'# caf\xe9\n' + NET.encode()))[0].name == 'small'
    with pytest.raises(PrototxtError, match=r':2: not UTF-8'):
        read_net(write(b'# caf\xe9\nname: "caf\xe9"'))


def test_an_empty_net_is_a_net(write):
    net, source = read_net(write(''))
    assert (len(net.layer), source.lines) == (0, [])


@pytest.mark.parametrize(
    'text', ['{' * 200_000, 'layer {' * 50_000, '\\"' * 200_000, 'name: "' + '\\' * 200_000, '[' * 9999]
)
def test_hostile_texts_fail_quickly(text):
    with pytest.raises(PrototxtError) as error:
        net_of(text)
    assert len(str(error.value)) < 500
    layer_lines(text)


@pytest.mark.filterwarnings('ignore:invalid escape sequence')  # protobuf's own, for \\o and the like
def test_mutated_prototxts_never_crash():
    rng = random.Random(0)
    letters = '{}<>[]":\'#\\\n 0-a\x00\ufffd,;'
    outcomes = set()
    for _ in range(400):
        text = list(NET)
        for _ in range(rng.choice((1, 1, 2, 8))):
            i = rng.randrange(len(text))
            text[i : i + rng.choice((0, 1, 1, 20))] = rng.choice(letters)
        try:
            net = net_of(''.join(text))
            outcomes.add(len(net.layer) == len(layer_lines(''.join(text))))
        except PrototxtError:
            outcomes.add('error')
    assert outcomes == {True, 'error'}


# ---- upgrades of nets


def test_todays_net_stays_as_it_is():
    net = net_of(NET)
    new, notes = upgrade_net(net)
    assert new == net
    assert notes == []
    assert not upgrade_net(net).changed


def test_v1_layers():
    assert upgrade("""
        layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" param: "w" param: ""
          blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0 blob_share_mode: PERMISSIVE
          convolution_param { num_output: 8 kernel_size: 3 } include { phase: TRAIN } }
        layers { name: "loss" type: SOFTMAX_LOSS bottom: "conv" loss_weight: 0.5 }
    """) == same("""
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
          param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 1 }
          param { name: "" lr_mult: 2 decay_mult: 0 }
          convolution_param { num_output: 8 kernel_size: 3 } include { phase: TRAIN } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" loss_weight: 0.5 }
    """)


def test_every_v1_type_has_a_name():
    for value in caffe_pb2.V1LayerParameter.LayerType.DESCRIPTOR.values:
        net = caffe_pb2.NetParameter()
        net.layers.add(type=value.number)
        name = upgrade_net(net).message.layer[0].type
        exceptions = {'NONE': '', 'SOFTMAX_LOSS': 'SoftmaxWithLoss'}
        assert name.lower() == exceptions.get(value.name, value.name.replace('_', '')).lower()


def test_v0_layers_with_padding():
    assert upgrade("""
        name: "old" input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
        layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
        layers { layer { name: "conv1" type: "conv" num_output: 8 kernelsize: 5 stride: 2 group: 2
                         biasterm: false weight_filler { type: "gaussian" std: 0.1 }
                         blobs_lr: 1 weight_decay: 0 } bottom: "pad1" top: "conv1" }
        layers { layer { name: "pool1" type: "pool" pool: AVE kernelsize: 3 stride: 2 }
                 bottom: "conv1" top: "pool1" }
        layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.2 }
                 bottom: "pool1" top: "pool1" }
    """) == same("""
        name: "old"
        layer { name: "input" type: "Input" top: "data"
          input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
          param { lr_mult: 1 decay_mult: 0 }
          convolution_param { num_output: 8 bias_term: false pad: 2 kernel_size: 5 stride: 2 group: 2
                              weight_filler { type: "gaussian" std: 0.1 } } }
        layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
          pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
        layer { name: "drop" type: "Dropout" bottom: "pool1" top: "pool1"
          dropout_param { dropout_ratio: 0.2 } }
    """)


def test_v0_data_layer():
    assert upgrade("""
        layers { layer { name: "images" type: "images" source: "list.txt" batchsize: 8 new_height: 32
                         shuffle_images: true scale: 0.5 meanfile: "mean" cropsize: 24 mirror: true }
                 top: "data" }
        layers { layer { name: "windows" type: "window_data" det_fg_fraction: 0.3
                         det_crop_mode: "square" } top: "w" }
    """) == same("""
        layer { name: "images" type: "ImageData" top: "data"
          image_data_param { source: "list.txt" batch_size: 8 new_height: 32 shuffle: true }
          transform_param { scale: 0.5 mean_file: "mean" crop_size: 24 mirror: true } }
        layer { name: "windows" type: "WindowData" top: "w"
          window_data_param { fg_fraction: 0.3 crop_mode: "square" } }
    """)


def test_v0_parameter_of_another_type_is_told():
    notes = upgrade_net(net_of('layers { layer { name: "r" type: "relu" stride: 2 } }')).notes
    assert "layer 'r': Unknown parameter stride for layer type relu, not used" in notes


def test_v1_data_transformation():
    assert upgrade('layers { type: DATA data_param { source: "db" scale: 0.5 crop_size: 24 } }') == same(
        'layer { type: "Data" data_param { source: "db" } transform_param { scale: 0.5 crop_size: 24 } }'
    )


def test_input_shape_and_bare_input():
    body = 'layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }'
    assert upgrade(f'input: "a" input_shape {{ dim: 2 dim: 3 }} {body}') == same(
        f'layer {{ name: "input" type: "Input" top: "a" input_param {{ shape {{ dim: 2 dim: 3 }} }} }} {body}'
    )
    assert upgrade(f'input: "a" {body}') == same(body)


def test_losses_of_each_roi_have_a_type_of_their_own():
    """R-FCN's first Caffe had them in SoftmaxWithLoss and SmoothL1Loss, as a top more."""
    tops = {'SoftmaxWithLoss': (1, 2, 3), 'SmoothL1Loss': (1, 2)}
    net = caffe_pb2.NetParameter()
    for kind, counts in tops.items():
        for count in counts:
            net.layer.add(name=f'{kind}{count}', type=kind, top=list('abc'[:count]))
    upgraded = upgrade_net(net)
    types = {layer.name: layer.type for layer in upgraded.message.layer}
    assert types == {
        'SoftmaxWithLoss1': 'SoftmaxWithLoss',
        'SoftmaxWithLoss2': 'SoftmaxWithLoss',
        'SoftmaxWithLoss3': 'SoftmaxWithLossOHEM',
        'SmoothL1Loss1': 'SmoothL1Loss',
        'SmoothL1Loss2': 'SmoothL1LossOHEM',
    }
    assert len(upgraded.notes) == 2 and 'is now a SmoothL1LossOHEM' in upgraded.notes[1]


def test_batch_norm_is_not_learnt():
    specs = 'param { lr_mult: 1 } param { lr_mult: 1 decay_mult: 2 } param { }'
    zero = 'param { lr_mult: 0 decay_mult: 0 }'
    new = upgrade_net(net_of(f'layer {{ name: "bn" type: "BatchNorm" {specs} }}'))
    assert new.message == net_of(f'layer {{ name: "bn" type: "BatchNorm" {zero * 3} }}')
    assert new.changed
    again = upgrade_net(new.message)
    assert (again.message, again.changed) == (new.message, False)


@pytest.mark.parametrize(
    'text, message',
    [
        ('layer { } layers { }', "includes both 'layer' and 'layers'"),
        ('layers { layer { name: "x" type: "convolution" } }', "Unknown layer name: 'convolution'"),
        ('layers { layer { name: "x" type: "relu" } bottom: "no" }', "Unknown blob input 'no'"),
        ('layers { layer { type: "relu" } } layers { name: "y" type: RELU }', 'not in the first format'),
        (
            'input: "d" layers { layer { type: "padding" } bottom: "d" top: "p" } '
            'layers { layer { name: "x" type: "relu" } bottom: "p" }',
            'non-convolutional / non-pooling layer type relu',
        ),
        (
            'input: "a" input: "b" input_shape { dim: 1 }',
            'Exactly one input_shape must be specified per input',
        ),
        ('input: "a" input_dim: 1 input_dim: 3', 'input_dim must be given four times per input'),
    ],
)
def test_nets_that_cannot_be_upgraded(text, message):
    with pytest.raises(PrototxtError, match=f'^old.prototxt: .*{message}'):
        upgraded(net_of(text), 'old.prototxt')


def test_upgrades_leave_their_argument_alone():
    net = net_of('input: "a" input_shape { dim: 1 } layers { name: "r" type: RELU bottom: "a" top: "a" }')
    before = copy.deepcopy(net)
    upgrade_net(net)
    assert net == before


# ---- solvers


def test_solver_type_becomes_a_string(write):
    notes = []
    path = write('net: "a.prototxt" solver_type: ADAGRAD snapshot_prefix: "x"', 'solver.prototxt')
    solver = read_solver(path, notes)
    assert (solver.type, solver.net, solver.snapshot_prefix) == ('AdaGrad', 'a.prototxt', 'x')
    assert not solver.HasField('solver_type')
    assert notes == ['solver_type is deprecated, write type: "AdaGrad"']
    with pytest.raises(PrototxtError, match='cannot be both specified'):
        read_solver(write('solver_type: SGD type: "SGD"'))


def test_snapshot_prefix_is_the_solvers_name_unless_given(write, tmp_path):
    assert read_solver(write('', 'my.solver.prototxt')).snapshot_prefix == str(tmp_path / 'my.solver')
    path = write(f'snapshot_prefix: "{tmp_path}"', 'solver.prototxt')
    assert read_solver(path).snapshot_prefix == str(tmp_path / 'solver')


def test_solver_errors_name_the_nearest_field(write):
    with pytest.raises(PrototxtError, match='SolverParameter has no field "base_learning_rate"'):
        read_solver(write('base_learning_rate: 1'))
    with pytest.raises(PrototxtError, match='did you mean "momentum"'):
        read_solver(write('momentun: 0.9'))


@pytest.mark.parametrize(
    ('field', 'hint'),
    [
        ('unpooling_param', ": DeconvNet's Caffe (HyeonwooNoh/caffe) has it"),  # not pooling_param
        ('annotated_data_param', ": SSD's Caffe (weiliu89/caffe, branch ssd) has it"),
        ('yolov3_param', ': Caffes with YOLO (eric612/MobileNet-YOLO and others) has it'),
        ('crop_parm', '; did you mean "crop_param"?'),
        ('zork_param', ''),  # nothing but the ending is like another's
    ],
)
def test_an_unknown_field_is_a_forks_or_nearly_another_or_nothing(field, hint):
    with pytest.raises(PrototxtError) as error:
        parse(f'layer {{ {field} {{ a: 1 }} }}', caffe_pb2.NetParameter(), 'net.prototxt')
    assert error.value.reason == f'LayerParameter has no field "{field}"{hint}'


def test_a_text_that_is_no_prototxt_is_told_so_in_a_line():
    prose = 'Online Hard Example Mining picks, of all proposals of an image, those that the net does worst on'
    with pytest.raises(PrototxtError) as error:
        parse(prose, caffe_pb2.NetParameter(), 'README.md')
    assert str(error.value) == (
        'README.md:1:1: this is no prototxt, hardly a word of it is a field; NetParameter has no field "Online"'
    )


def test_a_solver_or_a_net_of_many_misspelt_layers_is_a_prototxt():
    solver = 'base_lr: 1 lr_policy: "a" gamma: 1 power: 1 momentum: 1 weight_decay: 1 display: 1 max_iter: 1 type: "a" '
    for text in (solver + 'snapshot: 1 stepsize: 2', 'lair { } ' * 30):
        with pytest.raises(PrototxtError) as error:
            parse(text, caffe_pb2.NetParameter(), 'x')
        assert 'no prototxt' not in str(error.value)


def test_of_many_unknown_names_ten_are_listed_and_the_known_ones_once():
    text = (
        '\n'.join(f'zork{i} {{ }}' for i in range(8))
        + '\n'
        + 'layer { zork8: 1 zork9: 1 zork10: 1 zork11: 1 } '
        + 'q {}\n' * 20
    )
    with pytest.raises(PrototxtError) as error:
        parse(text, caffe_pb2.NetParameter(), 'x')
    said = str(error.value)
    assert said.count('there are name') == 1
    assert len(said.split('\n')) == 1 + 10 + 1
    assert said.endswith('\n  and 3 more')


def test_all_unknown_fields_and_layer_types_of_a_file_are_listed():
    text = """name: "mixed"
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: -8 } } }
layer { name: "p1" type: "AnnotatedData" bottom: "x" top: "p1" annotated_data_param { order: 0 order: [2, 3] } }
layer { name: "p2" type: "AnnotatedData" bottom: "x" top: "p2" annotated_data_param { order: 0 nested { type: "a" } } }
layer: [{ name: "a" type: "Pooling" pooling_param { pool: MAX kernel_sise: 2 pad: 1e1 } },
        { name: "b" type: "Unpooling" unpooling_param { spatial_scale: 0.0625 } }]
"""
    with pytest.raises(PrototxtError) as error:
        parse(text, caffe_pb2.NetParameter(), 'net.prototxt')
    first, *rest, advice = str(error.value).split('\n')
    ssd, deconv = "SSD's Caffe (weiliu89/caffe, branch ssd) has it", "DeconvNet's Caffe (HyeonwooNoh/caffe) has it"
    assert first == (
        f'net.prototxt:3:64: LayerParameter has no field "annotated_data_param": {ssd}. '
        'All that is unknown in this file:'
    )
    assert rest.pop(1).startswith(f'  lines 3, 4: layer type "AnnotatedData": {ssd}; in its place an Input layer can')
    assert rest == [
        f'  lines 3, 4: field "annotated_data_param" of LayerParameter: {ssd}',
        '  line 5: field "kernel_sise" of PoolingParameter; did you mean "kernel_size"?',
        f'  line 6: field "unpooling_param" of LayerParameter: {deconv}',
        f'  line 6: layer type "Unpooling": {deconv}',
    ]
    assert advice.startswith('A Python layer can stand in for a layer type: type: "Python" python_param {')
