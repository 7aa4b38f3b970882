"""What the server's tests share: pictures, forms, and a detector whose answers the test decides."""

import io
import struct
import threading
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
from PIL import Image


def picture(width=32, height=24, kind='.png', seed=0, most=256):
    """The bytes of an image file of noise; it is black if `most` is 1."""
    pixels = np.random.default_rng(seed).integers(0, most, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(kind, pixels)[1].tobytes()


def png_of(width, height):
    """A PNG that claims a size, and has a few bytes of pixels."""

    def chunk(name, data):
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

    head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b'')


def jpeg_of_scans(count):
    """A progressive JPEG that draws its last scan again and again."""
    file = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 99, np.uint8)).save(file, 'JPEG', progressive=True)
    *scans, last = file.getvalue().removesuffix(b'\xff\xd9').split(b'\xff\xda')
    return b'\xff\xda'.join([*scans, *[last] * (count - len(scans) + 1)]) + b'\xff\xd9'


def form(*parts, boundary='xyz', end=True):
    """Headers and body of a form; a part is (name, filename or None, content)."""
    body = b''
    for name, filename, content in parts:
        of_file = '' if filename is None else f'; filename="{filename}"'
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{of_file}\r\n\r\n'.encode()
        body += content + b'\r\n'
    body += f'--{boundary}--\r\n'.encode() if end else b''
    return {'headers': {'Content-Type': f'multipart/form-data; boundary={boundary}'}, 'content': body}


class ToldDetector:
    """Finds one button as large as each image. `batches`: the number of images of each call.

    While `gate` is closed a call waits; `entered` tells that one does. An image that is all black is too much for it.
    """

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(self, images):
        self.batches.append(len(images))
        self.entered.set()
        assert self.gate.wait(30)
        if not all(image.any() for image in images):
            raise RuntimeError('no memory at /secret/place')
        return [
            [SimpleNamespace(name='button', score=0.75, x1=0.0, y1=0.0, x2=w - 1.0, y2=h - 1.0)]
            for h, w in (image.shape[:2] for image in images)
        ]
