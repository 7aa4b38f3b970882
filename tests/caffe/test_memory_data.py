import numpy as np
import pytest
from one_layer import forward, make

from caffe.layer import LayerError

TEXT = 'type: "MemoryData" top: "x" top: "y" memory_data_param { batch_size: 2 channels: 1 height: 1 width: 3 }'
DATA = np.arange(12, dtype='f').reshape(4, 1, 1, 3)


def test_batches_follow_one_another_and_begin_again():
    net = make(TEXT)
    net[0].set_arrays(DATA, np.arange(4, dtype='f'))
    labels = [forward(*net)[1].tolist() for _ in range(3)]
    assert labels == [[0, 1], [2, 3], [0, 1]]
    np.testing.assert_array_equal(forward(*net)[0], DATA[2:])


def test_refusals():
    net = make(TEXT)
    with pytest.raises(LayerError, match='has no arrays yet'):
        forward(*net)
    with pytest.raises(ValueError, match='N a multiple of batch size 2; got shape'):
        net[0].set_arrays(DATA[:3], np.zeros(3))
    with pytest.raises(ValueError, match='one label an item'):
        net[0].set_arrays(DATA, np.zeros(3))
    with pytest.raises(LayerError, match='must be specified and positive'):
        make(TEXT.replace('height: 1', ''))
