"""The one way to read an image: what of it is kept, and what is said of one that cannot be read."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detection_data.image_file import (
    ImageError,
    cut_off,
    damage_of,
    decode_image,
    image_scale,
    read_header,
    read_image,
    read_image_size,
)
from detection_data.jpeg_trial import damage_within_jpegs
from detection_data.proposal_methods import check_edge_model
from detection_data.video import Frames, video_written
from roi_data_layer import image_blob

# Four flat quarters, so that lossy kinds keep them: BGR
QUARTERS = np.uint8([[(10, 120, 230), (200, 30, 60)], [(0, 0, 0), (255, 255, 255)]])
IMAGE = QUARTERS.repeat(16, axis=0).repeat(24, axis=1)
CENTRES = np.ix_([8, 24], [12, 36])


def saved(path, mode, **options):
    image = Image.fromarray(IMAGE[:, :, ::-1])
    image = image.convert('L') if mode == 'I;16' else image  # from colours Pillow 10.0 does not make it
    image.convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize(
    'name, mode, tolerance',
    [
        ('a.png', 'RGB', 0), ('a.bmp', 'RGB', 0), ('a.tif', 'RGB', 0), ('a.jpg', 'RGB', 6), ('a.webp', 'RGB', 6),
        ('a.png', 'RGBA', 0), ('a.png', 'P', 1), ('a.gif', 'P', 1), ('a.jpg', 'CMYK', 6), ('a.tif', 'CMYK', 3),
    ],
)  # fmt: skip
def test_every_kind_becomes_8_bit_bgr(tmp_path, name, mode, tolerance):
    if mode == 'P':
        Image.fromarray(IMAGE[:, :, ::-1]).quantize(8).save(tmp_path / name)
    else:
        saved(tmp_path / name, mode)
    image = read_image(tmp_path / name)
    assert image.dtype == np.uint8 and image.shape == (32, 48, 3)
    np.testing.assert_allclose(image[CENTRES].astype(int), QUARTERS, atol=tolerance)
    assert read_image_size(tmp_path / name) == (48, 32)


def test_greys_are_repeated_and_16_bits_scaled_to_8(tmp_path):
    grey = np.uint8([[7, 200]])
    cv2.imwrite(str(tmp_path / 'g.png'), grey)
    assert read_image(tmp_path / 'g.png').tolist() == [[[7] * 3, [200] * 3]]
    for name in ('d.png', 'd.tif'):
        cv2.imwrite(str(tmp_path / name), IMAGE.astype(np.uint16) * 257)
        np.testing.assert_array_equal(read_image(tmp_path / name), IMAGE)


def test_a_kind_of_pixels_that_is_not_read_is_named(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / 'f.tif')
    with pytest.raises(ImageError, match=r'f\.tif: cannot be read as an image: OpenCV does not read TIFF .* kind F;'):
        read_image(tmp_path / 'f.tif')


def turned(path, orientation):
    """A photograph, bright in its upper left corner as stored, that says how it is to be turned."""
    stored = np.zeros((30, 40, 3), np.uint8)
    stored[:8, :12] = 255
    header = Image.Exif()
    header[0x0112] = orientation
    if path.suffix == '.tif':
        Image.fromarray(stored).save(path, tiffinfo={0x0112: orientation})
    else:
        Image.fromarray(stored).save(path, exif=header)
    return stored


@pytest.mark.parametrize('extension', ['.jpg', '.png', '.webp'])
@pytest.mark.parametrize('orientation', range(2, 9))
def test_pixels_and_size_are_those_stored_whatever_exif_data_say(extension, orientation, tmp_path):
    path = tmp_path / f'a{extension}'
    stored = turned(path, orientation)
    np.testing.assert_array_equal(read_image(path) > 128, stored > 0)
    assert read_image_size(path) == (40, 30) and read_header(path)[1:3] == (40, 30)
    assert read_header(path).orientation == orientation


@pytest.mark.parametrize('orientation', range(2, 9))
def test_the_rows_of_a_tiff_are_put_in_their_order(orientation, tmp_path):
    path = tmp_path / 'a.tif'
    stored = turned(path, orientation)
    turned(tmp_path / 'a.jpg', orientation)
    shown = cv2.imread(str(tmp_path / 'a.jpg'), cv2.IMREAD_COLOR)  # turned, as viewers do
    assert shown.shape == (stored.shape if orientation < 5 else (40, 30, 3))
    np.testing.assert_array_equal(read_image(path) > 128, shown > 128)
    assert read_image_size(path) == shown.shape[1::-1] and read_header(path).orientation == 1


def png_header(width, height):
    header = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n'
        + struct.pack('>I', 13)
        + header
        + struct.pack('>II', zlib.crc32(header), 9)
        + b'IDAT'
        + bytes(9)
    )


def bmp(width, height):
    return b'BM' + struct.pack('<IHHIIiiHHIIiiII', 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def jpeg_header(width, height):
    return b'\xff\xd8\xff\xc0\0\x11\x08' + struct.pack('>HH', height, width) + b'\3\1\x22\0\2\x11\1\3\x11\1'


@pytest.mark.parametrize(
    'content, reason',
    [
        (None, 'there is no such file'),
        (b'', 'the file is empty'),
        (b'not a photograph', 'not an image of a known kind'),
        (bmp(100_000, 100_000), 'its header says 100000 x 100000 pixels, which its 54 bytes cannot hold'),
        (png_header(100_000, 100_000), 'its header says 100000 x 100000 pixels'),
        (png_header(100_000, 100_000) + b'\0' * 2_000_000, r'100000 x 100000 pixels are more than OpenCV reads, 2\^30'),
        (jpeg_header(60_000, 60_000), 'cannot be read as an image'),
    ],
)
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path, content, reason):
    path = tmp_path / 'x.img'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=rf'x\.img: .*{reason}'):
        read_image(path)
    with pytest.raises(ImageError, match=r'x\.img: cannot be read as an image'):
        read_image_size(path)


def test_flipped_bits_in_any_byte_of_a_header_end_in_an_image_or_a_message(tmp_path):
    whole = saved(tmp_path / 'w.bmp', 'RGB').read_bytes()
    path = tmp_path / 'x.bmp'
    refused = 0
    for place in range(2, 54):
        for bit in range(8):
            spoilt = bytearray(whole)
            spoilt[place] ^= 1 << bit
            path.write_bytes(spoilt)
            try:
                assert read_image(path).dtype == np.uint8
            except ImageError as e:
                assert str(e).startswith(f'{path}: cannot be read as an image: ')
                refused += 1
    assert refused > 40  # the sizes alone have that many bits that no file of 4 KB can bear


def test_a_header_that_lies_costs_no_memory(tmp_path):
    (tmp_path / 'x.png').write_bytes(png_header(30_000, 30_000))  # 2.7 GB, and fewer than 2^30 pixels
    program = (
        'import resource, sys; from detection_data.image_file import read_image\n'
        'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
        'try: read_image(sys.argv[1])\n'
        'except ValueError as e: print(e)\n'
        'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)'
    )
    env = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2] / 'lib')}
    command = [sys.executable, '-c', program, str(tmp_path / 'x.png')]
    said, grown = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    assert 'x.png: cannot be read' in said and int(grown) < 50_000


def test_a_chunk_that_is_longer_than_the_file(tmp_path):
    whole = saved(tmp_path / 'x.png', 'RGB').read_bytes()
    (tmp_path / 'x.png').write_bytes(whole.replace(whole[33:37], b'\x7f\xff\xff\xff', 1))  # of the first IDAT
    with pytest.raises(ImageError, match=rf'x\.png: .* a chunk that is longer than its {len(whole)} bytes'):
        read_image(tmp_path / 'x.png')


def test_an_image_of_another_size_than_annotated(tmp_path):
    saved(tmp_path / 'a.png', 'RGB')
    assert read_image(tmp_path / 'a.png', (48, 32)).shape == (32, 48, 3)
    with pytest.raises(ImageError, match=r'a\.png: the image is 48 x 32 pixels, but its annotation says 32 x 48'):
        read_image(tmp_path / 'a.png', (32, 48))


def test_a_whole_image_is_not_damaged_however_large(tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    large = Image.new('L', (16_000, 12_000))  # 192 megapixels: more than twice what Pillow takes for an attack
    large.save(tmp_path / 'l.jpg', quality=30)
    assert damage_of(tmp_path / 'l.jpg') is None and read_image_size(tmp_path / 'l.jpg') == (16_000, 12_000)
    assert limit == Image.MAX_IMAGE_PIXELS  # others keep their guard
    content = saved(tmp_path / 'c.jpg', 'RGB').read_bytes()
    (tmp_path / 'c.jpg').write_bytes(content[:-200])
    assert 'truncated' in damage_of(tmp_path / 'c.jpg').lower()


def latin_1(folder, name):
    """A path whose bytes are not UTF-8, as file systems of older machines have; macOS has none."""
    path = os.path.join(os.fsencode(folder), name.encode('latin-1'))
    try:
        open(path, 'wb').close()
    except OSError:
        pytest.skip('this file system takes UTF-8 names alone')
    return os.fsdecode(path)


def test_a_name_that_is_not_utf_8(tmp_path):
    """OpenCV 5 ends the process when it is given one."""
    path = latin_1(tmp_path, 'Größe.png')
    saved(path, 'RGB')
    np.testing.assert_array_equal(read_image(path), IMAGE)
    assert read_image_size(path) == IMAGE.shape[1::-1]
    saved(path, 'RGB', format='JPEG')
    assert damage_within_jpegs([path]) == [None]
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:-60] + b'\xff\xd9' + data[-58:])
    assert damage_within_jpegs([path])[0].startswith('Corrupt JPEG data')
    with pytest.raises(ImageError, match='OpenCV reads no video whose name is not UTF-8: rename it'):
        Frames(path)
    with pytest.raises(ValueError, match='OpenCV writes no video whose name'), video_written(path, 25):
        pass
    with pytest.raises(ValueError, match='OpenCV reads no model whose name'):
        check_edge_model(path)


@pytest.mark.parametrize('kind', ['jpg', 'png'])
def test_a_file_that_is_cut_off_is_told_by_its_end(tmp_path, kind, monkeypatch):
    path = saved(tmp_path / f'c.{kind}', 'RGB')
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    assert 'truncated' in cut_off(path).lower()
    monkeypatch.setattr('detection_data.image_file.damage_of', lambda path: pytest.fail('whole, and yet gone through'))
    for more in (b'', bytes(40)):
        path.write_bytes(content + more)
        assert cut_off(path) is None


# 700 x 0.47, 300 x 0.45, 1000 x 0.33
@pytest.mark.parametrize('width, height, most', [(6000, 4, 700), (2000, 3, 300), (3000, 1, 1000), (1, 3000, 1000)])
def test_a_side_that_becomes_0_is_refused_with_the_sizes(width, height, most):
    said = rf'{width} x {height} pixels, scaled so that its longer side is {most}, has a side of 0 pixels'
    with pytest.raises(ImageError, match=said):
        image_scale(height, width, 600, most)
    assert image_scale(4, 6000, 600, 1000) == 1000 / 6000  # 1000 x 0.67, which is a pixel


def test_an_image_is_scaled_by_rows_as_it_is_whole(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (401, 603, 3)).astype(np.uint8)
    means = np.array([[[102.9801, 115.9465, 122.7717]]])
    for scale in (0.123, 0.5, 1.7):
        whole = image_blob.resized(image, scale, means)
        monkeypatch.setattr(image_blob, '_LARGE', 1)
        by_rows = image_blob.resized(image, scale, means)
        monkeypatch.undo()
        assert by_rows.dtype == np.float32
        np.testing.assert_allclose(by_rows, whole, atol=1e-3)


@pytest.mark.parametrize('width, height', [(11_250, 8_450), (15_500, 11_620)], ids=['95 megapixels', '180 megapixels'])
def test_reading_and_scaling_a_large_image_takes_no_float_copy_of_it(width, height, tmp_path):
    """Measured in a process of its own, whose peak is nobody else's. As float32 it would take four times its bytes."""
    cv2.imwrite(str(tmp_path / 'l.jpg'), np.full((height, width, 3), 90, np.uint8))
    program = (
        'import resource, sys, numpy as np\n'
        'from roi_data_layer.image_blob import image_scale, read_image, resized, stacked\n'
        'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
        'image = read_image(sys.argv[1])\n'
        'scale = image_scale(*image.shape[:2], 600, 1000)\n'
        'blob = stacked([resized(image[:, ::-1], scale, np.zeros((1, 1, 3)))])\n'
        'print(*blob.shape, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)'
    )
    env = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2] / 'lib')}
    command = [sys.executable, '-c', program, str(tmp_path / 'l.jpg')]
    *shape, grown = map(
        int, subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()
    )
    assert shape == [1, 3, 600, round(600 * width / height)]
    unit = 1 if sys.platform == 'darwin' else 1024
    assert grown * unit < 1.3 * 3 * width * height


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.bmp', 'a.tif', 'a.webp', 'a.gif', 'cmyk.jpg', 'deep.png'])
def test_bytes_are_read_as_the_file_is(tmp_path, name):
    path = saved(tmp_path / name, {'cmyk.jpg': 'CMYK', 'deep.png': 'I;16'}.get(name, 'RGB'))
    np.testing.assert_array_equal(decode_image(path.read_bytes(), 'it'), read_image(path))


def test_bytes_of_a_turned_tiff_are_read_as_the_file_is(tmp_path):
    turned(tmp_path / 'a.tif', 6)
    np.testing.assert_array_equal(decode_image((tmp_path / 'a.tif').read_bytes(), 'it'), read_image(tmp_path / 'a.tif'))


@pytest.mark.parametrize(
    'content, reason',
    [(b'', 'the file is empty'), (b'hello', 'not an image'), (png_header(10**5, 10**5), 'cannot hold')],
)
def test_bytes_that_cannot_be_read_are_called_by_their_name(content, reason):
    with pytest.raises(ImageError, match=f'^the upload: cannot be read as an image: .*{reason}'):
        decode_image(content, 'the upload')
