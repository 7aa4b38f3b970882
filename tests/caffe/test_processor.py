"""Choices that follow the processor."""

import pytest
from gradient import run_layer

import caffe
from caffe import glog
from caffe.kernels import processor


@pytest.fixture
def says(monkeypatch):
    """Lets the processor say these words of itself."""

    def let(*words):
        monkeypatch.setattr(processor, 'words', lambda: frozenset(words))

    yield let
    caffe.set_precision('fp32')


@pytest.mark.parametrize(
    ('words', 'fast'),
    [
        ('GenuineIntel avx2', False),
        ('GenuineIntel avx512f avx512_bf16', False),  # as measured: half of float32
        ('GenuineIntel avx512f avx512_bf16 amx_bf16', True),
        ('AuthenticAMD avx512f avx512_bf16', True),
        ('asimd bf16 i8mm', True),  # ARM
        ('', False),
    ],
)
def test_which_processors_have_fast_bf16(says, words, fast):
    says(*words.split())
    assert processor.has_fast_bf16() == fast


def test_its_words_are_read_once_and_whole():
    words = processor.words()
    assert words is processor.words()
    assert not words or words & {'fpu', 'fp', 'asimd'}
    assert not any(word.replace('.', '').isdigit() for word in words)  # such as its clock of the moment


@pytest.mark.parametrize('word', ['avx512_bf16', 'amx_bf16'])
def test_bf16_where_it_is_slow_says_so_once(says, word, monkeypatch, capsys):
    monkeypatch.setattr(glog, '_warned', set())
    monkeypatch.setattr(glog, '_quiet_below', 0)
    says('GenuineIntel', word)
    caffe.set_precision('bf16')
    for _ in range(2):
        run_layer('type: "InnerProduct" inner_product_param { num_output: 1 }', [[[1.0]]])
    assert capsys.readouterr().err.count('bf16 is slower than fp32 on this processor') == (word == 'avx512_bf16')
