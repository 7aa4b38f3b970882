"""Images out of files and records: the pixels as stored, whatever EXIF data say, and one message for what is none."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

import caffe
from caffe.image_content import decoded
from caffe.layers.image_file import read_image
from caffe.layers.lmdb_data import datum_image

STORED = np.zeros((30, 40, 3), np.uint8)
STORED[:8, :12] = 255


def photograph(path, orientation):
    header = Image.Exif()
    header[0x0112] = orientation
    Image.fromarray(STORED).save(path, exif=header)
    return path


def readers(path):
    """(H, W) of the pixels by each way to read an image, from 0 to 1."""
    datum = caffe.proto.caffe_pb2.Datum(encoded=True, data=path.read_bytes())
    yield caffe.io.load_image(str(path))[:, :, 0]
    yield caffe.io.load_image(str(path), color=False)[:, :, 0]
    yield read_image(str(path))[0] / 255
    yield read_image(str(path), color=False)[0] / 255
    yield datum_image(datum)[0] / 255
    yield datum_image(datum, force_color=True)[0] / 255
    yield datum_image(datum, force_gray=True)[0] / 255


@pytest.mark.parametrize('extension', ['.jpg', '.png', '.webp'])
@pytest.mark.parametrize('orientation', range(2, 9))
def test_no_reader_turns_an_image(extension, orientation, tmp_path):
    path = photograph(tmp_path / f'a{extension}', orientation)
    for pixels in readers(path):
        np.testing.assert_array_equal(np.asarray(pixels) > 0.5, STORED[:, :, 0] > 0)


def test_what_is_no_image():
    assert decoded(b'', cv2.IMREAD_COLOR) is None
    assert decoded(b'no image', cv2.IMREAD_COLOR) is None


def test_a_png_with_a_chunk_longer_than_itself_costs_no_memory(tmp_path):
    import resource

    content = cv2.imencode('.png', STORED)[1].tobytes()
    lie = content[:33] + struct.pack('>I', 0x7FFFFFF0) + content[37:]  # of the first chunk of pixels
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert decoded(lie, cv2.IMREAD_COLOR) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
