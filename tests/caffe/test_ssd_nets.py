"""SSD and MobileNet-SSD as published, on seeded weights: the shapes that their papers and users know."""

import numpy as np
import pytest
from published_nets import mobilenet_ssd, ssd300

import caffe


@pytest.fixture(params=['ssd300', 'mobilenet_ssd'])
def net(request, tmp_path):
    path = tmp_path / 'deploy.prototxt'
    path.write_text({'ssd300': ssd300, 'mobilenet_ssd': mobilenet_ssd}[request.param]())
    caffe.set_random_seed(1)
    return caffe.Net(str(path), caffe.TEST)


# Cells of the maps, and prior boxes in each: 8732 in all are those of the SSD paper, 1917 those of MobileNet-SSD
MAPS = {
    8732: {'conv4_3_norm': (38, 4), 'fc7': (19, 6), 'conv6_2': (10, 6), 'conv7_2': (5, 6), 'conv8_2': (3, 4),
           'conv9_2': (1, 4)},
    1917: {'conv11': (19, 3), 'conv13': (10, 6), 'conv14_2': (5, 6), 'conv15_2': (3, 6), 'conv16_2': (2, 6),
           'conv17_2': (1, 6)},
}  # fmt: skip


def test_a_deploy_net_has_the_published_boxes_and_detects(net):
    boxes = 8732 if 'fc7' in net.blobs else 1917
    assert boxes == sum(side * side * count for side, count in MAPS[boxes].values())
    for name, (side, count) in MAPS[boxes].items():
        assert net.blobs[name].data.shape[2:] == (side, side)
        assert net.blobs[f'{name}_mbox_priorbox'].data.shape == (1, 2, 4 * count * side * side)
    rng = np.random.default_rng(0)
    net.blobs['data'].data[...] = rng.uniform(-1, 1, (1, 3, 300, 300))
    found = net.forward()['detection_out']
    assert net.blobs['mbox_loc'].data.shape == (1, 4 * boxes)
    assert net.blobs['mbox_conf'].data.shape == (1, 21 * boxes)
    scores = net.blobs['mbox_conf_softmax'].data
    assert scores.shape == (1, boxes, 21)
    np.testing.assert_allclose(scores.sum(axis=2), 1, rtol=1e-4)

    least, most = (0.01, 200) if boxes == 8732 else (0.25, 100)  # confidence_threshold, keep_top_k
    sure = scores[0, :, 1:] > least
    if not sure.any():  # one row that says so, as in detection_output_layer.cpp
        np.testing.assert_array_equal(found, [[[[0] + [-1] * 6]]])
        return
    assert found.shape[2] == most < sure.sum()
    image, label, score = found[0, 0, :, :3].T
    assert not image.any() and set(label.tolist()) <= set(range(1, 21)) and score.min() > least
    for row in found[0, 0]:  # a detection's score is that of its class at one of the boxes
        assert np.isclose(scores[0, :, int(row[1])], row[2], rtol=1e-5).any()
    assert (found[0, 0, :, 5:] >= found[0, 0, :, 3:5]).all()
