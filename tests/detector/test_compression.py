"""Layers in two by truncated SVD: the factors, the prototxts, and tools/compress_net.py."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from fast_rcnn.compression import CompressionError, compress, compressed_name, compressed_prototxt, truncated_svd
from fast_rcnn.model_card import ModelCard, add_card, read_card

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tests' / 'end_to_end'))
from commands import run  # noqa: E402

NET = """
# a net to test
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 } } }
layer { name: "fc6" type: "InnerProduct" bottom: "data" top: "fc6" # the large one
  param { lr_mult: 1 } param { lr_mult: 2 }
  inner_product_param { num_output: 8 weight_filler { type: "gaussian" std: 1 } bias_filler { type: "gaussian" } } }
layer { name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }
layer { name: "fc7" type: "InnerProduct" bottom: "fc6" top: "fc7"
  inner_product_param { num_output: 5 bias_term: false weight_filler { type: "gaussian" std: 1 } } }
layer { name: "fc8" type: "InnerProduct" bottom: "fc7" top: "fc8"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } } }
"""
# The layers' names and tops as in Fast R-CNN's models/VGG16/compressed/test.prototxt
PUBLISHED = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 } } }
layer { name: "fc6_L" type: "InnerProduct" bottom: "data" top: "fc6_L"
  param { lr_mult: 1 decay_mult: 1 } inner_product_param { num_output: 3 bias_term: false } }
layer { name: "fc6_U" type: "InnerProduct" bottom: "fc6_L" top: "fc6_U" inner_product_param { num_output: 8 } }
layer { name: "relu6" type: "ReLU" bottom: "fc6_U" top: "fc6_U" }
layer { name: "fc7" type: "InnerProduct" bottom: "fc6_U" top: "fc7"
  inner_product_param { num_output: 5 bias_term: false } }
layer { name: "fc8" type: "InnerProduct" bottom: "fc7" top: "fc8" inner_product_param { num_output: 2 } }
"""


def with_singular_values(rows, columns, values):
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.standard_normal((rows, len(values))))
    right, _ = np.linalg.qr(rng.standard_normal((columns, len(values))))
    return left, right, (left * values) @ right.T


@pytest.mark.parametrize(('rows', 'columns'), [(6, 40), (40, 6), (5, 5)])
def test_the_nearest_matrix_of_a_rank(rows, columns):
    """Eckart and Young: it has the largest singular values, and what is lost is the rest of them."""
    left, right, weights = with_singular_values(rows, columns, [8, 4, 2, 1])
    upper, lower, lost = truncated_svd(weights.astype(np.float32), 2)
    assert upper.shape == (rows, 2) and lower.shape == (2, columns)
    assert upper.dtype == lower.dtype == np.float32
    np.testing.assert_allclose(upper @ lower, (left[:, :2] * [8, 4]) @ right[:, :2].T, atol=1e-5)
    assert lost == pytest.approx(np.sqrt((4 + 1) / (64 + 16 + 4 + 1)), rel=1e-5)


def test_more_columns_than_are_in_double_precision_at_a_time():
    _, _, weights = with_singular_values(4, 10000, [3, 2, 1])
    upper, lower, lost = truncated_svd(weights.astype(np.float32), 3)
    np.testing.assert_allclose(upper @ lower, weights, atol=1e-6)
    assert lost < 1e-3


def test_no_weights_at_all_lose_nothing():
    upper, lower, lost = truncated_svd(np.zeros((3, 5), np.float32), 2)
    assert not (upper @ lower).any() and lost == 0


@pytest.mark.parametrize(
    ('weights', 'rank', 'message'),
    [
        (np.ones((3, 5)), 4, 'the rank is 4, and the weights are 3 x 5: expected 1 to 3'),
        (np.ones((3, 5)), 0, 'the rank is 0'),
        (np.array([[1, np.nan]]), 1, 'not finite'),
    ],
)
def test_ranks_and_weights_that_do_not_go(weights, rank, message):
    with pytest.raises(CompressionError, match=message):
        truncated_svd(weights, rank)


def load(folder, text, name):
    path = folder / f'{name}.prototxt'
    path.write_text(text)
    return caffe.Net(str(path), caffe.TEST)


def test_a_net_of_full_rank_computes_the_same(tmp_path):
    net = load(tmp_path, NET, 'net')
    smaller = load(tmp_path, compressed_prototxt(NET, {'fc6': 8, 'fc7': 5}), 'two')
    lost = compress(net, smaller)
    for of_net, of_smaller in zip(net.params['fc8'], smaller.params['fc8'], strict=True):
        of_smaller.data[...] = of_net.data
    assert list(smaller.params) == ['fc6_L', 'fc6_U', 'fc7_L', 'fc7_U', 'fc8'] and max(lost.values()) < 1e-3
    data = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(smaller.forward(data=data)['fc8'], net.forward(data=data)['fc8'], atol=1e-5)


def test_comments_and_the_names_of_tops_stay():
    made = compressed_prototxt(NET, {'fc6': 3})
    assert '# a net to test' in made and '# the large one' in made and '# fc6 in two, of rank 3' in made
    net = caffe_pb2.NetParameter()
    text_format.Parse(made, net)
    lower, upper = net.layer[1:3]
    assert (lower.name, *lower.bottom, *lower.top) == ('fc6_L', 'data', 'fc6_L')
    assert (lower.inner_product_param.num_output, lower.inner_product_param.bias_term) == (3, False)
    assert (upper.name, *upper.bottom, *upper.top) == ('fc6_U', 'fc6_L', 'fc6')
    assert [param.lr_mult for param in upper.param] == [1, 2]
    assert text_format.MessageToString(net.layer[4]).startswith('name: "fc7"')


WITH_FC = [path for path in sorted(ROOT.glob('models/*/*/*/*test.p*')) if 'name: "fc' in path.read_text()]


@pytest.mark.parametrize('path', WITH_FC, ids=lambda p: str(p.relative_to(ROOT)))
def test_all_detectors_here_can_be_had_in_two(path):
    text = path.read_text()
    before, after = caffe_pb2.NetParameter(), caffe_pb2.NetParameter()
    text_format.Parse(text, before)
    names = [layer.name for layer in before.layer if layer.name in ('fc5', 'fc6', 'fc7')]
    assert names
    text_format.Parse(compressed_prototxt(text, dict.fromkeys(names, 16)), after)
    known = [layer.name for layer in before.layer]
    for name in names:
        known[known.index(name) : known.index(name) + 1] = [f'{name}_L', f'{name}_U']
    assert [layer.name for layer in after.layer] == known


@pytest.mark.parametrize(
    ('text', 'ranks', 'message'),
    [
        (NET, {'fc9': 2}, 'net.prototxt has no layer fc9; its InnerProduct layers are: fc6, fc7, fc8'),
        (NET, {'relu6': 2}, 'layer relu6 is of type ReLU; only InnerProduct can be in two'),
        (NET + NET, {'fc6': 2}, 'two layers fc6: give the prototxt of a net to test'),
        (NET.replace('lr_mult: 1', 'name: "fc6_w"'), {'fc6': 2}, 'fc6 shares its weights by name'),
        (NET.replace('num_output: 8', 'num_output: 8 transpose: true'), {'fc6': 2}, 'fc6 are transposed'),
        ('layers { name: "fc6" type: INNER_PRODUCT }', {'fc6': 2}, 'old format of Caffe: python -m caffe upgrade'),
        (NET.replace('bottom: "data" ', ''), {'fc6': 2}, 'layer fc6 has no bottom'),
    ],
)
def test_prototxts_that_do_not_go(text, ranks, message):
    with pytest.raises(CompressionError, match=message):
        compressed_prototxt(text, ranks, 'net.prototxt')


def test_nets_that_do_not_fit_together(tmp_path):
    net = load(tmp_path, NET, 'net')
    other = load(tmp_path, PUBLISHED.replace('num_output: 8', 'num_output: 9'), 'other')
    with pytest.raises(CompressionError, match=r'fc6_U of the compressed net has weights of \(9, 3\)'):
        compress(net, other)
    with pytest.raises(CompressionError, match='has fc9_L and fc9_U, and the net has no layer fc9'):
        compress(net, load(tmp_path, PUBLISHED.replace('"fc6_', '"fc9_'), 'third'))


def test_layers_that_are_in_two_already_stay(tmp_path):
    net = load(tmp_path, compressed_prototxt(NET, {'fc6': 3}), 'one')
    both = load(tmp_path, compressed_prototxt(compressed_prototxt(NET, {'fc6': 3}), {'fc7': 2}), 'both')
    before = both.params['fc6_L'][0].data.copy()
    assert list(compress(net, both)) == ['fc7']
    np.testing.assert_array_equal(both.params['fc6_L'][0].data, before)


def test_the_family_s_name_of_the_weights():
    assert compressed_name('a/b_iter_9.caffemodel', {'fc6': 1024, 'fc7': 256}) == (
        'a/b_iter_9_svd_fc6_1024_fc7_256.caffemodel'
    )


@pytest.fixture
def trained(tmp_path):
    """The flags that name a trained net with a card."""
    load(tmp_path, NET, 'test').save(str(tmp_path / 'net.caffemodel'))
    add_card(str(tmp_path / 'net.caffemodel'), ModelCard(('__background__', 'cat'), 'cats'))
    return ['--gpu', 'cpu', '--def', tmp_path / 'test.prototxt', '--net', tmp_path / 'net.caffemodel']


def test_the_tool_writes_weights_and_prototxt(trained, tmp_path):
    said = run('tools/compress_net.py', *trained, '--rank', 'fc6=3', 'fc7=4')
    weights, prototxt = (tmp_path / f'net_svd_fc6_3_fc7_4.{kind}' for kind in ('caffemodel', 'prototxt'))
    assert f'Wrote svd model to: {weights}' in said.stdout
    assert re.search(r'^fc6 +8 x 12 +3 +96 +60 +[\d.]+% of the norm$', said.stdout, re.MULTILINE)
    assert re.search(r'^fc7 +5 x 8 +4 +40 +52 .* no gain: give a lower rank$', said.stdout, re.MULTILINE)
    card = read_card(str(weights))
    assert card.classes == ('__background__', 'cat') and card.net == prototxt.read_text()  # it loads without a prototxt
    net = caffe.Net(str(tmp_path / 'test.prototxt'), str(tmp_path / 'net.caffemodel'), caffe.TEST)
    small = caffe.Net(str(prototxt), str(weights), caffe.TEST)
    upper, singular, lower = np.linalg.svd(net.params['fc6'][0].data, full_matrices=False)
    product = small.params['fc6_U'][0].data @ small.params['fc6_L'][0].data
    np.testing.assert_allclose(product, (upper[:, :3] * singular[:3]) @ lower[:3], atol=1e-5)
    np.testing.assert_array_equal(small.params['fc6_U'][1].data, net.params['fc6'][1].data)


def test_the_two_files_have_one_name_whatever_the_order_of_the_flags(trained, tmp_path):
    run('tools/compress_net.py', *trained, '--rank', 'fc7=2', 'fc6=1')
    made = {path.name for path in tmp_path.iterdir()} - {'net.caffemodel', 'test.prototxt'}
    assert made == {'net_svd_fc6_1_fc7_2.caffemodel', 'net_svd_fc6_1_fc7_2.prototxt'}


def test_a_prototxt_that_is_no_text_is_named(trained, tmp_path):
    (tmp_path / 'svd.prototxt').write_bytes(b'\xa0\xff' * 9)
    said = run('tools/compress_net.py', *trained, '--def-svd', tmp_path / 'svd.prototxt', status=1)
    assert f'{tmp_path}/svd.prototxt: a binary file, where a prototxt is expected' in said.stderr


def test_a_published_prototxt_says_the_ranks(trained, tmp_path):
    (tmp_path / 'compressed.prototxt').write_text(PUBLISHED)
    run('tools/compress_net.py', *trained, '--def-svd', tmp_path / 'compressed.prototxt')
    small = caffe.Net(str(tmp_path / 'compressed.prototxt'), str(tmp_path / 'net_svd_fc6_3.caffemodel'), caffe.TEST)
    net = caffe.Net(str(tmp_path / 'test.prototxt'), str(tmp_path / 'net.caffemodel'), caffe.TEST)
    np.testing.assert_array_equal(small.params['fc7'][0].data, net.params['fc7'][0].data)
    said = run(
        'tools/compress_net.py', *trained, '--def-svd', tmp_path / 'compressed.prototxt', '--rank', 'fc6=2', status=1
    )
    assert 'is there and says the ranks itself: leave out --rank' in said.stderr


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--rank', 'fc6=2', 'fc6=3'], '--rank fc6=3: expected LAYER=K, K being 1 or more, each layer once'),
        (['--rank', 'fc6=9'], '--rank fc6=9: its weights are 8 x 12, so 8 is the most'),
        ([], '--rank fc6=1024: its weights are 8 x 12'),
    ],
)
def test_flags_that_do_not_go(trained, tmp_path, flags, message):
    said = run('tools/compress_net.py', *trained, *flags, status=1)
    assert message in said.stderr and len(said.stderr.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ['net.caffemodel', 'test.prototxt']
