import cv2
import numpy as np
import pytest
from one_layer import forward, make

import caffe
from caffe.layer import LayerError
from caffe.layers.window_data import Warp, context_warp

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_without_context_a_box_fills_the_crop():
    assert context_warp((2, 3, 11, 7), (20, 30), 16, 0, square=False) == Warp((2, 3, 11, 7), (16, 16), 0, 0, 0)


def test_context_within_the_image():
    # 10x10 pixels become 12 of 16, 2 context pixels on each side: 10 * 16 / 12 = 13.3 pixels around (15, 10).
    warp = context_warp((10, 5, 19, 14), (20, 30), 16, 2, square=False)
    assert warp == Warp((8, 3, 22, 17), (16, 16), 0, 0, 0)


def test_context_beyond_the_image_stays_empty():
    # Grown to (-2, -2, 12, 12): 15 pixels become 16, two of them above and left of the image.
    warp = context_warp((0, 0, 9, 9), (20, 30), 16, 2, square=False)
    assert warp == Warp((0, 0, 12, 12), (14, 14), 2, 2, 0)


def test_square_grows_the_shorter_side():
    warp = context_warp((10, 8, 19, 11), (40, 40), 10, 0, square=True)  # 10x4 around (15, 10)
    assert warp.box == (10, 5, 20, 15) and warp.size == (10, 10)


def write(folder, windows):
    cv2.imwrite(str(folder / 'a.png'), IMAGE)
    lines = ['# 0', 'a.png', '3', '20', '30', str(len(windows)), *windows]
    (folder / 'windows.txt').write_text('\n'.join(lines) + '\n')


def window_data(folder, options='', transform=''):
    return make(
        f"""type: "WindowData" top: "data" top: "label" transform_param {{ crop_size: 8 {transform} }}
            window_data_param {{ source: "{folder}/windows.txt" root_folder: "{folder}/"
                                 batch_size: 4 fg_fraction: 0.25 {options} }}"""
    )


def test_a_batch_has_background_then_foreground(tmp_path):
    write(tmp_path, ['7 0.9 2 3 9 10', '5 0.1 20 0 27 7'])
    data, labels = forward(*window_data(tmp_path, transform='mean_value: 10 scale: 0.5'))
    assert labels.tolist() == [0, 0, 0, 7]
    pixels = (IMAGE.astype('f').transpose(2, 0, 1) - 10) / 2
    np.testing.assert_allclose(data[0], pixels[:, 0:8, 20:28])
    np.testing.assert_allclose(data[3], pixels[:, 3:11, 2:10])


def test_mirrored_padding_changes_sides(tmp_path):
    write(tmp_path, ['1 0.9 0 4 5 9', '5 0.1 0 4 5 9'])
    caffe.set_random_seed(0)
    data, _ = forward(*window_data(tmp_path, 'context_pad: 1', 'mirror: true'))
    plain = [d for d in data if not d[:, :, 0].any()]
    mirrored = [d for d in data if not d[:, :, -1].any()]
    assert len(plain) + len(mirrored) == 4 and plain and mirrored
    np.testing.assert_array_equal(mirrored[0], plain[0][:, :, ::-1])


def test_refusals(tmp_path):
    with pytest.raises(LayerError, match='Failed to open window file'):
        window_data(tmp_path)
    write(tmp_path, ['7 0.9 2 3 9 10'])
    with pytest.raises(LayerError, match='has no background windows, of which a batch needs 3'):
        window_data(tmp_path)
    write(tmp_path, ['0 0.9 2 3 9 10'])
    with pytest.raises(LayerError, match='needs a label above 0, got 0'):
        window_data(tmp_path)
    write(tmp_path, ['1 0.9 2 3 9'])
    with pytest.raises(LayerError, match=r'windows\.txt, after 1 images: '):
        window_data(tmp_path)
    write(tmp_path, ['1 0.9 2 3 9 10', '1 0 2 3 30 10'])
    with pytest.raises(LayerError, match=r'is not within a\.png of 30x20 pixels'):
        forward(*window_data(tmp_path))
    with pytest.raises(LayerError, match="crop_mode must be 'warp' or 'square'"):
        window_data(tmp_path, 'crop_mode: "fit"')
