"""Net: from a prototxt to blobs and layers; sharing, splits, backward paths, pycaffe's calls, clear errors."""

import gc
import re
import weakref

import numpy as np
import pytest

import caffe

TWO_HEADS = """
name: "two_heads"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 3 dim: 4 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 3 } } }
layer { name: "base" type: "InnerProduct" bottom: "data" top: "base"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "readonly" type: "InnerProduct" bottom: "base" top: "readonly" propagate_down: false
  param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "silence" type: "Silence" bottom: "readonly" propagate_down: false }
layer { name: "ip" type: "InnerProduct" bottom: "base" top: "ip"
  param { name: "w" lr_mult: 1 } param { name: "b" lr_mult: 2 }
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def make_net(tmp_path):
    def make(text, phase=caffe.TRAIN, **kwargs):
        path = tmp_path / 'net.prototxt'
        path.write_text(text)
        return caffe.Net(str(path), phase, **kwargs)

    return make


def fill(net):
    rng = np.random.default_rng(0)
    net.blobs['data'].data[...] = rng.standard_normal(net.blobs['data'].shape)
    net.blobs['label'].data[...] = [0, 1, 0]


def test_names_follow_caffe(make_net):
    net = make_net(TWO_HEADS)
    assert list(net.blobs)[:5] == ['data', 'label', 'base', 'base_base_0_split_0', 'base_base_0_split_1']
    assert net.inputs == ['data', 'label']
    assert net.outputs == ['loss']
    assert net.layer_dict['base_base_0_split'].type == 'Split'
    assert net.bottom_names['ip'] == ['base_base_0_split_1']
    assert net.blob_loss_weights['loss'] == 1


def test_parameters_of_one_name_are_one_blob(make_net):
    net = make_net(TWO_HEADS)
    net.params['readonly'][0].data[...] = 3
    assert (net.params['ip'][0].data == 3).all()
    net.params['ip'][0].diff[...] = 2
    assert (net.params['readonly'][0].diff == 2).all()
    learnable = net.learnable_params
    assert len(learnable.blobs) == 4  # base's two, and w and b once
    assert learnable.lr_mults == [1, 1, 1, 2]


def test_a_read_only_branch_adds_nothing_to_the_shared_gradient(make_net):
    with_branch, alone = make_net(TWO_HEADS), None
    lines = TWO_HEADS.splitlines()
    start = next(i for i, line in enumerate(lines) if 'name: "readonly"' in line)
    alone = make_net('\n'.join(lines[:start] + lines[start + 4 :]))
    calls = []
    with_branch.layer_dict['readonly'].backward = lambda *args: calls.append(args)
    alone.share_with(with_branch)
    for net in (with_branch, alone):
        fill(net)
        net.forward()
        net.backward()
    assert not calls
    for layer in ('base', 'ip'):
        for ours, theirs in zip(with_branch.params[layer], alone.params[layer], strict=True):
            assert theirs.diff.any()
            np.testing.assert_array_equal(ours.diff, theirs.diff)
    assert not with_branch.blobs['base_base_0_split_0'].diff.any()


def test_mismatched_multipliers_of_a_shared_parameter_are_refused(make_net):
    with pytest.raises(caffe.LayerError, match="Shared param 'w' has mismatched lr_mult: 3 and 1"):
        make_net(TWO_HEADS.replace('param { name: "w" }', 'param { name: "w" lr_mult: 3 }'))


def test_shared_parameters_of_different_shape_are_refused(make_net):
    text = TWO_HEADS.replace(
        'num_output: 2 weight_filler { type: "xavier" } } }\nlayer { name: "silence"',
        'num_output: 3 weight_filler { type: "xavier" } } }\nlayer { name: "silence"',
    )
    with pytest.raises(caffe.LayerError, match=r"'w' owned by layer 'readonly' param 0; shape mismatch.*3 5 .*2 5"):
        make_net(text)


def test_gradients_accumulate_until_cleared(make_net):
    net = make_net(TWO_HEADS)
    fill(net)
    net.forward()
    net.backward()
    once = net.params['base'][0].diff.copy()
    net.forward()
    net.backward()
    np.testing.assert_allclose(net.params['base'][0].diff, 2 * once, rtol=1e-5)  # sums in another order
    net.clear_param_diffs()
    assert not net.params['base'][0].diff.any()


def test_forward_takes_inputs_and_gives_outputs(make_net):
    net = make_net(TWO_HEADS)
    out = net.forward(data=np.ones((3, 4)), label=np.zeros(3), blobs=['base'])
    assert set(out) == {'loss', 'base'}
    assert out['base'] is not None and out['base'].shape == (3, 5)
    with pytest.raises(ValueError, match='do not match net inputs'):
        net.forward(data=np.ones((3, 4)))
    with pytest.raises(ValueError, match='not batch sized'):
        net.forward(data=np.ones((2, 4)), label=np.zeros(3))


def test_forward_from_layer_to_layer(make_net):
    net = make_net(TWO_HEADS)
    fill(net)
    net.forward(end='base')
    net.blobs['base'].data[...] = 0
    net.forward(start='base_base_0_split')
    bias = net.params['ip'][1].data
    np.testing.assert_array_equal(net.blobs['ip'].data, np.tile(bias, (3, 1)))
    with pytest.raises(ValueError, match="no layer 'nope'"):
        net.forward(start='nope')


def test_a_backward_pass_without_a_forward_pass_is_refused(make_net):
    net = make_net("""force_backward: true
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 1, 4, 4] } } }
    layer { name: "pool" type: "Pooling" bottom: "x" top: "y" pooling_param { kernel_size: 2 } }""")
    with pytest.raises(caffe.LayerError, match=r"net.prototxt:3: layer 'pool'.*needs a forward pass before it"):
        net.backward()
    net.forward()
    assert net.backward()['x'].shape == (1, 1, 4, 4)


def test_include_and_exclude_rules(make_net):
    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 } } }
    layer { name: "train" type: "Power" bottom: "data" top: "train" include { phase: TRAIN } }
    layer { name: "test" type: "Power" bottom: "data" top: "test" exclude { phase: TRAIN } }
    layer { name: "deep" type: "Power" bottom: "data" top: "deep" include { min_level: 2 } }
    layer { name: "staged" type: "Power" bottom: "data" top: "staged" include { stage: "a" not_stage: "b" } }
    """
    assert make_net(text).outputs == ['train']
    assert make_net(text, caffe.TEST).outputs == ['test']
    assert make_net(text, caffe.TEST, level=2).outputs == ['deep', 'test']
    assert make_net(text, caffe.TEST, stages=['a']).outputs == ['staged', 'test']
    assert make_net(text, caffe.TEST, stages=['a', 'b']).outputs == ['test']


def test_outputs_are_in_the_order_of_the_alphabet(make_net):
    """Caffe gathers them in a std::set (Net::Init): the log, and scripts that take outputs[0], go by it."""
    net = make_net("""
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }
    layer { name: "first" type: "Power" bottom: "x" top: "loss_cls" }
    layer { name: "second" type: "Power" bottom: "x" top: "loss_bbox" }""")
    assert net.outputs == ['loss_bbox', 'loss_cls']


def test_level_and_stages_by_position(tmp_path):
    path = tmp_path / 'net.prototxt'
    path.write_text("""
    layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 } } include { stage: "deploy" } }
    layer { name: "b" type: "Input" top: "b" input_param { shape { dim: 1 } } include { min_level: 1 } }""")
    assert caffe.Net(str(path), caffe.TEST, 0, ['deploy']).outputs == ['a']
    assert caffe.Net(str(path), caffe.TEST, 1).outputs == ['b']
    with pytest.raises(TypeError, match='Net takes'):
        caffe.Net(str(path), caffe.TEST, 1, level=1)
    with pytest.raises(TypeError, match=r"^phase must be caffe\.TEST, not the text 'TEST'$"):
        caffe.Net(str(path), 'TEST')
    with pytest.raises(TypeError, match=r"none is given: Net\('.*net\.prototxt', 'x\.caffemodel', caffe\.TEST\)$"):
        caffe.Net(str(path), 'x.caffemodel')
    with pytest.raises(TypeError, match=r"none is given: Net\('.*net\.prototxt', caffe\.TEST\)$"):
        caffe.Net(str(path))


def test_a_loss_without_a_top_takes_a_weight(make_net):
    net = make_net(TWO_HEADS.replace('top: "loss" }', 'loss_weight: 0.5 }'))
    fill(net)
    named = make_net(TWO_HEADS)
    fill(named)
    named.share_with(net)
    assert float(net.forward_backward()) == pytest.approx(0.5 * float(named.forward()['loss']))


PARAMS_INSIDE = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2 }
  blobs { shape { dim: 2 dim: 3 } data: [1, 2, 3, 4, 5, 6] } blobs { shape { dim: 2 } double_data: [7, 8] } }"""


def test_parameters_that_stand_in_the_prototxt_are_taken(make_net):
    net = make_net(PARAMS_INSIDE)
    assert net.params['ip'][0].data.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert net.params['ip'][1].data.tolist() == [7, 8]
    with pytest.raises(caffe.LayerError, match=r"net.prototxt:3: layer 'ip'.* expected shape \(2, 3\).* \(3, 2\)"):
        make_net(PARAMS_INSIDE.replace('dim: 2 dim: 3', 'dim: 3 dim: 2'))
    with pytest.raises(caffe.LayerError, match=r"net.prototxt:3: layer 'ip'.* shape \[2\] has 1 numbers"):
        make_net(PARAMS_INSIDE.replace('[7, 8]', '7'))


def test_a_top_that_is_read_and_weighs_in_the_loss_is_split(make_net):
    net = make_net("""
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 } } }
    layer { name: "twice" type: "Power" bottom: "data" top: "twice" power_param { scale: 2 } loss_weight: 3 }
    layer { name: "more" type: "Power" bottom: "twice" top: "more" power_param { scale: 5 } loss_weight: 1 }
    force_backward: true
    """)
    net.blobs['data'].data[...] = 1
    loss = net._forward(0, len(net.layers) - 1)
    assert float(loss) == 2 * 3 + 10 * 1
    net.backward()
    assert net.blobs['data'].diff[0] == 2 * 3 + 10


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        (
            'type: "Silence"',
            'type: "Silense"',
            r"net.prototxt:\d+: layer 'silence' .*unknown layer type 'Silense'.*'Silence'",
        ),
        (
            'bottom: "ip" bottom',
            'bottom: "ipp" bottom',
            r"net.prototxt:\d+: layer 'loss' .*Unknown bottom blob 'ipp' .bottom index 0.*'ip'",
        ),
        (
            'bottom: "base" top: "ip"',
            'bottom: "base" top: "label"',
            r"layer 'ip' .*top blob 'label' produced by multiple",
        ),
        ('bottom: "ip" bottom: "label" top', 'bottom: "ip" top', r"layer 'loss' .*takes 2 bottom"),
        (
            'propagate_down: false }',
            'propagate_down: false propagate_down: true }',
            r"layer 'silence' .*propagate_down",
        ),
        ('param { name: "w" }', 'param { } param { } param { name: "w" }', r"layer 'readonly' .*too many params"),
    ],
)
def test_a_wrong_prototxt_is_refused_with_file_line_and_layer(make_net, old, new, message):
    assert old in TWO_HEADS
    with pytest.raises(caffe.LayerError, match=message):
        make_net(TWO_HEADS.replace(old, new))


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('Mean', r": FlowNet's Caffe \(lmb-freiburg/flownet2\) has it"),  # not BN
        ('Yolov3', r': Caffes with YOLO \(.*\) has it'),  # not Log
        ('PSROIAlign', r': Caffes with PSROIAlign \(.*\) has it'),  # not ROIAlign
        ('AnnotatedData', r": SSD's Caffe .* has it; in its place an Input layer .* label \(1, 1, G, 8\).*"),
        ('DetectionEvaluate', r": SSD's Caffe .* has it; leave it out, and judge the rows of DetectionOutput .*"),
        ('ImageLabelmapData', r": HED's Caffe .* has it; in its place a Python layer .*"),
        ('Conv', r"; did you mean 'Convolution'\?"),
        ('Zork', ''),
    ],
)
def test_an_unknown_layer_type_is_a_forks_or_nearly_another_or_nothing(make_net, name, hint):
    with pytest.raises(
        caffe.LayerError,
        match=rf"net\.prototxt:\d+: layer 'silence' \({name}\): unknown layer type '{name}'{hint}\.? A Python layer",
    ):
        make_net(TWO_HEADS.replace('type: "Silence"', f'type: "{name}"'))


def test_all_unknown_layer_types_of_a_net_are_listed_and_those_left_out_are_not(make_net):
    with pytest.raises(caffe.LayerError) as error:
        make_net("""layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 } } }
layer { name: "p1" type: "Unpooling" bottom: "x" top: "p1" }
layer { name: "p2" type: "AnnotatedData" top: "d" include { stage: "never" } }
layer { name: "p3" type: "Unpooling" bottom: "x" top: "p3" }
layer { name: "p4" type: "Relu" bottom: "x" top: "p4" }""")
    lines = str(error.value).split('\n')
    assert lines[0].endswith(
        "net.prototxt:2: layer 'p1' (Unpooling): unknown layer type 'Unpooling': "
        "DeconvNet's Caffe (HyeonwooNoh/caffe) has it. "
        'All that is unknown in this net:'
    )
    assert lines[1:3] == [
        "  lines 2, 4: layer type 'Unpooling': DeconvNet's Caffe (HyeonwooNoh/caffe) has it",
        "  line 5: layer type 'Relu'; did you mean 'ReLU'?",
    ]


def test_a_question_ends_in_no_full_stop(make_net):
    with pytest.raises(caffe.LayerError, match=r"did you mean 'ReLU'\? A Python layer can stand in"):
        make_net('layer { name: "in" type: "Input" top: "x" }\nlayer { name: "r" type: "Relu" bottom: "x" top: "r" }')


def test_unknown_field_is_refused_with_its_nearest_name(make_net):
    with pytest.raises(caffe.PrototxtError, match=r'net\.prototxt:6:.*num_outputs.*num_output'):
        make_net(TWO_HEADS.replace('num_output: 5', 'num_outputs: 5'))


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r'nowhere\.prototxt'):
        caffe.Net('nowhere.prototxt', caffe.TEST)


def test_weights_go_out_and_come_in(make_net, tmp_path):
    net = make_net(TWO_HEADS)
    for name in ('a.caffemodel', 'a.caffemodel.h5'):
        path = str(tmp_path / name)
        (net.save if name == 'a.caffemodel' else net.save_hdf5)(path)
        other = make_net(TWO_HEADS)
        assert (other.params['base'][0].data != net.params['base'][0].data).any()
        other.copy_from(path)
        for layer in net.params:
            for a, b in zip(net.params[layer], other.params[layer], strict=True):
                np.testing.assert_array_equal(a.data, b.data)


def test_copy_from_skips_what_the_net_lacks_and_refuses_other_shapes(make_net, tmp_path, capfd):
    path = str(tmp_path / 'a.caffemodel')
    make_net(TWO_HEADS).save(path)
    make_net(TWO_HEADS.replace('name: "base" type', 'name: "other" type')).copy_from(path)
    assert 'Ignoring source layer base' in capfd.readouterr().err
    wider = make_net(TWO_HEADS.replace('num_output: 5', 'num_output: 6'))
    before = wider.params['ip'][0].data.copy()
    with pytest.raises(
        ValueError, match=r"layer 'base'; shape mismatch.  Source param shape is 5 4 \(20\).* 6 4 \(24\)"
    ):
        wider.copy_from(path)
    np.testing.assert_array_equal(wider.params['ip'][0].data, before)


def test_layers_that_the_net_lacks_are_told_in_one_line(make_net, tmp_path, capfd):
    """Caffe prints a line for each."""
    layers = (
        'layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 }} }} }} '
        'layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ num_output: 2 }} }} {}'
    )
    path = str(tmp_path / 'a.caffemodel')
    more = 'layer {{ name: "{0}" type: "{1}" bottom: "y" top: "{0}" }}'
    make_net(layers.format(more.format('relu', 'ReLU') + more.format('prob', 'Softmax'))).save(path)
    capfd.readouterr()
    make_net(layers.format('')).copy_from(path)
    lines = [line for line in capfd.readouterr().err.splitlines() if 'Ignoring' in line]
    assert [line.partition('] ')[2] for line in lines] == ['Ignoring 2 source layers that this net lacks: relu, prob']


def test_weights_of_which_no_layer_fits_are_refused(make_net, tmp_path):
    """Caffe says "Ignoring source layer" for each and goes on with the fillers' numbers."""
    path = str(tmp_path / 'other.caffemodel')
    layers = 'layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 }} }} }} layer {{ {} }}'
    make_net(
        layers.format('name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 }')
    ).save(path)
    net = make_net(TWO_HEADS)
    with pytest.raises(
        ValueError,
        match=r'other\.caffemodel: none of its layers with weights is in this net.* file has fc, the net base,',
    ):
        net.copy_from(path)
    make_net(layers.format('name: "relu" type: "ReLU" bottom: "x" top: "y"')).copy_from(path)  # nothing to fill
    make_net('name: "small" ' + layers.format(
        'name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 }'
    ).replace('{{', '{').replace('}}', '}')).save(path)  # fmt: skip
    with pytest.raises(ValueError, match=r"other\.caffemodel \(weights of the net 'small'\): none of its layers"):
        net.copy_from(path)


def test_layers_of_one_name_that_have_parameters_are_warned_of_once(make_net, capfd):
    """Caffe says nothing; what it saves of such a net has two layers of that name, and the first fills both."""
    layer = (
        """layer { name: "%s" type: "InnerProduct" bottom: "%s" top: "%s" inner_product_param { num_output: 3 } }\n"""
    )
    inputs = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
    relu = 'layer { name: "%s" type: "ReLU" bottom: "z" top: "z" }\n'
    for _ in range(2):
        make_net(inputs + layer % ('fc', 'x', 'y') + layer % ('fc', 'y', 'z'))
    (line,) = [line for line in capfd.readouterr().err.splitlines() if 'has the name of' in line]
    assert re.search(r"prototxt:3: layer 'fc' has the name of the one at .*prototxt:2: .* Give each a name", line)
    make_net(inputs + layer % ('fc', 'x', 'y') + layer % ('fc2', 'y', 'z') + relu % 'r' + relu % 'r')
    assert 'has the name of' not in capfd.readouterr().err


def test_hooks_run_around_every_layer(make_net):
    net = make_net(TWO_HEADS)
    seen = []
    net.before_forward(lambda i: seen.append(('before', i)))
    net.after_forward(lambda i: seen.append(('after', i)))
    net.forward()
    n = len(net.layers)
    assert seen == [(when, i) for i in range(n) for when in ('before', 'after')]


def test_a_deleted_net_is_freed_and_its_arrays_live_on(make_net):
    net = make_net(TWO_HEADS)
    array = net.blobs['base'].data
    ghost = weakref.ref(net)
    del net
    gc.collect()
    assert ghost() is None
    array[...] = 1
    assert array.sum() == 15


def test_a_python_layers_exception_arrives_whole(make_net, tmp_path, monkeypatch):
    (tmp_path / 'my_layers.py').write_text(
        'import caffe\n'
        'class Fails(caffe.Layer):\n'
        '    def setup(self, bottom, top): self.n = int(self.param_str)\n'
        '    def reshape(self, bottom, top): top[0].reshape(self.n)\n'
        '    def forward(self, bottom, top): raise KeyError("mine")\n'
        'not_a_layer = 3\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = (
        'layer { name: "p" type: "Python" top: "t" python_param { module: "my_layers" layer: "Fails" param_str: "2" } }'
    )
    net = make_net(text)
    assert net.blobs['t'].shape == (2,)
    with pytest.raises(KeyError, match='mine'):
        net.forward()
    for old, new, message in (
        ('"my_layers"', '"your_layers"', "module 'your_layers', which Python does not find"),
        ('"Fails"', '"Succeeds"', "has no 'Succeeds'"),
        ('"Fails"', '"not_a_layer"', 'derived from caffe.Layer'),
    ):
        with pytest.raises(caffe.LayerError, match=message):
            make_net(text.replace(old, new))


@pytest.mark.parametrize(
    'layer',
    [
        'type: "InnerProduct" inner_product_param { num_output: 4 }',
        'type: "Convolution" convolution_param { num_output: 3 kernel_size: 1 }',
        'type: "Deconvolution" convolution_param { num_output: 3 kernel_size: 1 }',
        'type: "Pooling" pooling_param { kernel_size: 1 }',
    ],
)
def test_a_layer_that_would_overwrite_what_it_reads_is_refused(make_net, layer):
    with pytest.raises(caffe.layer.LayerError, match=r"layer 'here' .*does not allow in-place computation"):
        make_net(f"""
            layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 3 dim: 2 dim: 2 }} }} }}
            layer {{ name: "here" bottom: "x" top: "x" {layer} }}""")


# -- which layers have a backward pass, and why the others have none (Net::Init's backward loop, net.cpp)

BACKWARD = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 3] } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: [2, 1] } } }
layer { name: "frozen" type: "InnerProduct" bottom: "x" top: "frozen" param { lr_mult: 0 } param { lr_mult: 0 }
        inner_product_param { num_output: 3 } }
layer { name: "relu" type: "ReLU" bottom: "frozen" top: "frozen" }
layer { name: "learns" type: "InnerProduct" bottom: "frozen" top: "learns" inner_product_param { num_output: 3 } }
layer { name: "scored" type: "InnerProduct" bottom: "learns" top: "scored" inner_product_param { num_output: 1 } }
layer { name: "after" type: "Power" bottom: "scored" top: "after" power_param { scale: 2 } }
layer { name: "cut" type: "Power" bottom: "after" top: "cut" propagate_down: false }
layer { name: "on" type: "InnerProduct" bottom: "cut" top: "on" inner_product_param { num_output: 1 } }
layer { name: "aside" type: "InnerProduct" bottom: "learns" top: "aside" inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "on" bottom: "y" top: "loss" }
"""
NOTHING_BACK = "no gradient comes back to it: 'cut' reads 'after' with propagate_down: false"


@pytest.mark.parametrize(
    ('layer', 'why'),
    [
        ('x', 'nothing to learn: it has no parameters'),
        ('frozen', 'nothing to learn: its parameters have lr_mult 0, and nothing before it learns'),
        ('relu', 'nothing to learn: it has no parameters, and nothing before it learns'),
        ('scored', NOTHING_BACK),
        ('after', NOTHING_BACK),
        ('cut', 'nothing to learn: it has no parameters, and it says propagate_down: false'),
        ('on', None),
        ('loss', None),
        ('aside', 'no loss is computed from its tops'),
    ],
)
def test_a_layer_without_a_backward_pass_says_why(make_net, layer, why):
    assert make_net(BACKWARD).why_no_backward(layer) == why


def test_what_has_no_backward_pass_is_not_called(make_net):
    net = make_net(BACKWARD)
    called = []
    for name, layer in net.layer_dict.items():
        layer.backward = lambda *args, name=name: called.append(name)
    net.forward()
    net.backward()
    assert called == ['loss', 'on']
    assert [name for name in net.layer_dict if net.why_no_backward(name) is None] == ['on', 'loss']


def test_of_two_reasons_further_on_both_are_given(make_net):
    """The Split before two readers has no backward pass as neither reader goes back, each for a reason of its own."""
    net = make_net(BACKWARD)
    assert net.why_no_backward('learns') == (
        "no gradient comes back to it: 'cut' reads 'after' with propagate_down: false, and "
        "'aside' reads 'learns_learns_0_split_1', and has no backward pass: no loss is computed from its tops"
    )


def test_without_a_loss_nothing_goes_back(make_net):
    net = make_net(BACKWARD[: BACKWARD.index('layer { name: "loss"')])
    assert net.why_no_backward('on') == 'the net has no loss'
    with pytest.raises(ValueError, match="this net has no layer 'nix'"):
        net.why_no_backward('nix')


def test_force_backward_leaves_no_layer_out(make_net):
    net = make_net(BACKWARD + 'force_backward: true')
    assert {net.why_no_backward(name) for name in net.layer_dict} == {None}


def test_a_node_holds_what_the_net_knows_of_a_layer(make_net):
    net = make_net(TWO_HEADS)
    node = net.nodes[net._layer_names.index('loss')]
    assert node.layer is net.layer_dict['loss']
    assert (node.name, node.bottom_names, node.top_names) == ('loss', ['ip', 'label'], ['loss'])
    assert node.bottoms == [net.blobs['ip'], net.blobs['label']] and node.tops == [net.blobs['loss']]
    assert node.losses == [(net.blobs['loss'], 1)]
    assert node.where.endswith('net.prototxt:14')
    assert (node.need_backward, node.bottom_need_backward) == (True, [True, False])
    assert not node.has_run
    net.forward()
    assert node.has_run


# -- bottoms that nobody makes


@pytest.mark.parametrize(
    ('producer', 'said'),
    [
        (
            'include { phase: TRAIN }',
            r"layer 'maker' \(.*:3\) would make it, but include { phase: TRAIN } does not hold in phase TEST, level 1",
        ),
        (
            'include { phase: TRAIN } include { min_level: 2 }',
            r'include { phase: TRAIN } include { min_level: 2 } does not hold in phase TEST, level 1, stages a, b$',
        ),
        ('exclude { stage: "a" }', r'would make it, but exclude { stage: "a" } holds in phase TEST, level 1, stages a'),
    ],
)
def test_an_unknown_bottom_names_the_layer_whose_rule_left_it_out(make_net, producer, said):
    text = f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 1 }} }} }}
        layer {{ name: "maker" type: "Power" bottom: "x" top: "made" {producer} }}
        layer {{ name: "reader" type: "Power" bottom: "made" top: "read" }}"""
    with pytest.raises(caffe.LayerError, match=r"net.prototxt:4: layer 'reader'.*bottom blob 'made'.*" + said):
        make_net(text, caffe.TEST, level=1, stages=['a', 'b'])


def test_an_unknown_bottom_that_is_made_later_says_where(make_net):
    with pytest.raises(caffe.LayerError, match=r"'y' .*layer 'late' \(.*:3\) makes it, but stands after this one"):
        make_net("""
            layer { name: "early" type: "Silence" bottom: "y" }
            layer { name: "late" type: "Input" top: "y" input_param { shape { dim: 1 } } }""")


# -- nets and layers that cannot be


@pytest.mark.parametrize('text', ['', '# only a comment', 'name: "nothing"'])
def test_a_net_without_layers_is_refused(make_net, text):
    with pytest.raises(caffe.PrototxtError, match=r'net\.prototxt: a net needs layers; there are none in it'):
        make_net(text)


def test_a_net_whose_rules_leave_nothing_is_refused(make_net):
    with pytest.raises(caffe.PrototxtError, match=r'rules leave all layers out of the net in phase TEST$'):
        make_net('layer { name: "a" type: "Input" top: "a" include { phase: TRAIN } }', caffe.TEST)


@pytest.mark.parametrize(
    ('layer', 'message'),
    [
        (
            'type: "Tile" tile_param { tiles: 2147483647 }',
            r'blob size exceeds INT_MAX: shape \(1, 6442450941, 2\)',
        ),
        (
            'type: "InnerProduct" inner_product_param { num_output: 4294967295 weight_filler { type: "xavier" } }',
            r'blob size exceeds INT_MAX: shape \(4294967295, 6\)',
        ),
        (
            'type: "Reshape" reshape_param { shape { dim: -2 } }',
            '',
        ),
    ],
)
def test_sizes_that_no_blob_can_have_name_the_layer(make_net, layer, message):
    with pytest.raises(caffe.LayerError, match=r"net.prototxt:3: layer 'huge' .*" + message):
        make_net(f"""
            layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, 3, 2] }} }} }}
            layer {{ name: "huge" bottom: "x" top: "y" {layer} }}""")


def test_what_numpy_or_torch_raise_in_a_native_layer_names_it_too(make_net):
    net = make_net(TWO_HEADS)

    def forward(bottom, top):
        raise MemoryError('no memory left')

    net.layer_dict['ip'].forward = forward
    with pytest.raises(caffe.LayerError, match=r"net.prototxt:11: layer 'ip' .*MemoryError: no memory left") as caught:
        net.forward()
    assert isinstance(caught.value.__cause__, MemoryError)
