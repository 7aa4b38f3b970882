"""Arrays to and from Caffe's messages, and images to and from a net's input (pycaffe's io.py).

Images are float32 H x W x K, RGB, of values 0 to 1, as pycaffe has them; blobs are K x H x W.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.message import Message

from caffe.image_content import decoded
from caffe.layers.lmdb_data import datum_image
from caffe.proto import caffe_pb2

_GRAY_OF_RGB = np.array([0.2125, 0.7154, 0.0721], np.float32)  # skimage.color.rgb2gray

# ---- Messages


def blobproto_to_array(blob: Message, return_diff: bool = False) -> np.ndarray:
    """The data (or the diff) of a BlobProto, float64.

    Legacy blobs (num, channels, height, width) come with 4 axes. Raises ValueError where the numbers do not
    fill the shape.
    """
    values = (blob.diff or blob.double_diff) if return_diff else (blob.data or blob.double_data)
    legacy = ('num', 'channels', 'height', 'width')
    shape = [getattr(blob, axis) for axis in legacy] if any(map(blob.HasField, legacy)) else list(blob.shape.dim)
    flat = np.array(values, np.float64)
    if flat.size != np.prod(shape):
        part = 'diff' if return_diff else 'data'
        raise ValueError(f'a BlobProto of shape {shape} has {flat.size} numbers as its {part}')
    return flat.reshape(shape)


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> Message:
    """A BlobProto with this array as data and, if given, `diff` (of the same shape) as diff."""
    if diff is not None and np.shape(diff) != np.shape(arr):
        raise ValueError(f'data and diff need one shape: {np.shape(arr)} and {np.shape(diff)}')
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(np.shape(arr))
    blob.data.extend(np.ravel(arr).astype(float).tolist())
    if diff is not None:
        blob.diff.extend(np.ravel(diff).astype(float).tolist())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Sequence[np.ndarray]) -> bytes:
    """A serialized BlobProtoVector of these arrays."""
    return caffe_pb2.BlobProtoVector(blobs=map(array_to_blobproto, arraylist)).SerializeToString()


def blobprotovector_str_to_arraylist(serialized: bytes) -> list[np.ndarray]:
    """The arrays of a serialized BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(serialized).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Message:
    """A Datum of a (K, H, W) array: uint8 as bytes, others as floats. Raises ValueError for another shape."""
    if arr.ndim != 3:
        raise ValueError(f'Incorrect array shape: a Datum holds (channels, height, width), got {arr.shape}')
    datum = caffe_pb2.Datum(label=label)
    datum.channels, datum.height, datum.width = arr.shape
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.ravel().astype(float).tolist())
    return datum


def datum_to_array(datum: Message) -> np.ndarray:
    """The (K, H, W) array of a Datum: uint8 of bytes, float64 of floats. The label is `datum.label`.

    An encoded image (PNG, JPEG) is decoded, BGR, as the Data layer does. Raises LayerError (a ValueError)
    where the numbers do not fill the shape, or no image can be read.
    """
    image = datum_image(datum)
    return image.astype(np.float64) if image.dtype == np.float32 else image.copy()


# ---- From images to a net's input


class Transformer:
    """Makes images fit for a net's input blobs, and blobs images again.

    inputs: name -> shape of each input blob, {'data': net.blobs['data'].data.shape}. What shall be done to an
    input is set by the `set_` methods, in any order; nothing is done unless set, except resizing.
    """

    def __init__(self, inputs: dict[str, Sequence[int]]):
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def _shape(self, in_: str) -> tuple[int, ...]:
        if in_ not in self.inputs:
            raise ValueError(f'{in_!r} is not one of the net inputs: {", ".join(self.inputs)}')
        return self.inputs[in_]

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The (K, H, W) float32 input for an (H', W', K) image, which stays as it is.

        In this order: resized to the input, transposed, channels swapped, multiplied by raw_scale, the mean subtracted,
        multiplied by input_scale.
        """
        size = self._shape(in_)[2:]
        out = data.astype(np.float32)  # a copy: pycaffe changed the caller's array where no step made one
        if out.shape[:2] != size:
            out = resize_image(out, size)
        if in_ in self.transpose:
            out = out.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            out = out[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            out *= self.raw_scale[in_]
        if in_ in self.mean:
            out -= self.mean[in_]
        if in_ in self.input_scale:
            out *= self.input_scale[in_]
        return out

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The image of a (K, H, W) or (1, K, H, W) input: undoes `preprocess`, except the resizing."""
        shape = self._shape(in_)
        out = np.array(data, np.float32)
        if out.ndim == len(shape) and len(out) == 1:
            out = out[0]
        if out.ndim != len(shape) - 1:
            raise ValueError(f'one input of {in_}, of shape {shape[1:]}, is expected; got shape {out.shape}')
        if in_ in self.input_scale:
            out /= self.input_scale[in_]
        if in_ in self.mean:
            out += self.mean[in_]
        if in_ in self.raw_scale:
            out /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            out = out[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            out = out.transpose(np.argsort(self.transpose[in_]))
        return out

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """The order of an image's axes in the blob: (2, 0, 1) makes K x H x W of H x W x K."""
        axes = len(self._shape(in_)) - 1
        if len(order) != axes:
            raise ValueError(
                f'Transpose order needs to have the same number of dimensions as the input, {axes}: {order}'
            )
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """The order of the channels, the first axis after the transpose: (2, 1, 0) makes BGR of RGB."""
        channels = self._shape(in_)[1]
        if len(order) != channels:
            raise ValueError(f'Channel swap needs as many entries as the input has channels, {channels}: {order}')
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """A factor for the image, before the mean: 255 for nets trained on images of 0 to 255."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """What is subtracted after raw_scale: a number a channel (K,), or an image (K, H, W), resized."""
        _, channels, *size = self._shape(in_)
        mean = np.asarray(mean)
        if mean.ndim == 1:
            if len(mean) != channels:
                raise ValueError(f'Mean channels incompatible with input: {len(mean)}, the input has {channels}')
            mean = mean[:, np.newaxis, np.newaxis]
        else:
            if mean.ndim == 2:
                mean = mean[np.newaxis]
            if mean.ndim != 3 or len(mean) not in (1, channels):
                raise ValueError(f'Mean shape invalid: {mean.shape}; ({channels},) or {(channels, *size)} is expected')
            if mean.shape[1:] != tuple(size):
                mean = resize_image(mean.transpose(1, 2, 0), size).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """A factor for the input, after the mean."""
        self._shape(in_)
        self.input_scale[in_] = scale


# ---- Images


def load_image(filename: str, color: bool = True) -> np.ndarray:
    """An image file as a float32 (H, W, 3) RGB array of values 0 to 1; without `color` (H, W, 1).

    Without color a color image becomes its intensity, a gray one stays as it is. Alpha is dropped; the
    orientation in a photograph's EXIF data is not applied, as in pycaffe. Raises FileNotFoundError, or
    ValueError for a file that OpenCV does not read.
    """
    import cv2  # here: it takes a twentieth of a second, and many programs read no image

    with open(filename, 'rb') as file:
        image = decoded(file.read(), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f'{filename}: not an image that OpenCV reads')
    if np.issubdtype(image.dtype, np.integer):
        image = image / np.float32(np.iinfo(image.dtype.name).max)
    image = image.astype(np.float32).reshape(*image.shape[:2], -1)
    if image.shape[2] == 1:
        return np.tile(image, (1, 1, 3)) if color else image
    rgb = np.ascontiguousarray(image[:, :, 2::-1])
    return rgb if color else (rgb @ _GRAY_OF_RGB)[:, :, np.newaxis]


def resize_image(im: np.ndarray, new_dims: Sequence[int] | np.ndarray, interp_order: int = 1) -> np.ndarray:
    """An (H, W, K) image resized to `new_dims` (height, width), as float32.

    interp_order: of the spline, 0 nearest, 1 linear, 3 cubic. As scikit-image did when Caffe 1.0 was
    written: pixels have centres half a pixel in, the outside is the image's minimum, nothing is smoothed
    before shrinking (scikit-image 0.15 and later smooth, so pycaffe's result depends on its version). Images
    of other than 1 or 3 channels go from corner pixel to corner pixel instead, as scipy's zoom, which
    pycaffe uses for them.
    """
    if im.ndim != 3:
        raise ValueError(f'an image of shape (height, width, channels) is expected; got {im.shape}')
    from scipy import ndimage  # here: it takes 0.2 s and 15 MB, and most programs never resize by it

    factors = *(new / old for new, old in zip(new_dims, im.shape[:2], strict=True)), 1
    im = np.asarray(im, np.float64)
    if im.shape[-1] not in (1, 3):
        return ndimage.zoom(im, factors, order=interp_order).astype(np.float32)
    low, high = im.min(), im.max()
    out = ndimage.zoom(im, factors, order=interp_order, mode='grid-constant', cval=low, grid_mode=True)
    return np.clip(out, low, high).astype(np.float32)


def oversample(images: Sequence[np.ndarray] | np.ndarray, crop_dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Ten crops of each of N (H, W, K) images: four corners, centre, and the five mirrored.

    Returns (10 N, h, w, K) float32. crop_dims: (h, w). The images need one size. Raises ValueError where a
    crop is larger than the images.
    """
    array = np.asarray(images, np.float32)
    (height, width), (h, w) = array.shape[1:3], map(int, crop_dims)
    if h > height or w > width:
        raise ValueError(f'a crop of {h} x {w} does not fit into images of {height} x {width}')
    corners = [(y, x) for y in (0, height - h) for x in (0, width - w)]
    places = [*corners, ((height - h) // 2, (width - w) // 2)]
    crops = np.stack([array[:, y : y + h, x : x + w] for y, x in places], axis=1)
    return np.concatenate([crops, crops[:, :, :, ::-1]], axis=1).reshape(-1, h, w, array.shape[3])
