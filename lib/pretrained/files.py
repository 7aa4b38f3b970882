"""Files of weights, read into arrays by name: PyTorch's, safetensors, Keras's HDF5, NumPy's. Nothing in them is run."""

from __future__ import annotations

import json
import math
import os
import re
import zipfile

import h5py
import numpy as np

from detection_data.hdf5_trial import problem_of_hdf5
from pretrained import WeightsError

Arrays = dict[str, np.ndarray]

_KINDS = ('.pth', '.pt', '.bin', '.safetensors', '.h5', '.hdf5', '.npz')
_LONGEST_HEADER = 100 << 20  # bytes, as the safetensors library has it
_DTYPES = {'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'BF16': '<u2', 'I64': '<i8', 'I32': '<i4', 'U8': 'u1', 'BOOL': '?'}
_OPTIMISER = 'optimizer_weights'


def read_weights(path: str) -> Arrays:
    """The arrays of a file by their names, float32; of Keras's as layer/array, such as block1_conv1/kernel.

    Raises FileNotFoundError, or WeightsError for a file of another kind, a damaged one, one that wants to run code,
    and for numbers that are not finite.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'there is no file {path}')
    ending = os.path.splitext(path)[1].lower()
    if ending in _KINDS:
        _check_content(path, ending)
    if ending in ('.pth', '.pt', '.bin'):
        from pretrained.torch_file import read_torch_file

        arrays = read_torch_file(path)
    elif ending == '.safetensors':
        arrays = _safetensors(path)
    elif ending in ('.h5', '.hdf5'):
        arrays = _keras(path)
    elif ending == '.npz':
        arrays = _npz(path)
    else:
        raise WeightsError(f'{path}: files of weights end in {", ".join(_KINDS)}')
    if not arrays:
        raise WeightsError(f'{path}: there is no array in this file')
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise WeightsError(f'{path}: {name} has numbers that are not finite: the file is damaged')
    return arrays


def _check_content(path: str, ending: str) -> None:
    """Raises WeightsError for an empty file and for one that is text, such as a web page in place of a download."""
    with open(path, 'rb') as file:
        head = file.read(512)
    what = f'an {ending} file' if ending == '.npz' else 'a file of weights'
    if not head:
        raise WeightsError(f'{path}: the file is empty, expected {what}: copy it again')
    if re.fullmatch(rb'[\t\n\r -~\x80-\xff]*', head) and head[:1] < b'\x80':
        page = ' (a web page: download the file again)' if re.match(rb'(?i)\s*<(!doctype|html|\?xml)', head) else ''
        raise WeightsError(f'{path}: the file is text, expected {what}{page}')


def _safetensors(path: str) -> Arrays:
    """huggingface/safetensors, README: 8 bytes that say how long a JSON header is, the header, and then the numbers."""
    size = os.path.getsize(path)
    with open(path, 'rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise WeightsError(f'{path}: not a safetensors file, or not the whole of one')
        try:
            header = json.loads(file.read(length))
            described = {name: about for name, about in header.items() if name != '__metadata__'}
            places = {name: _place(about) for name, about in described.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WeightsError(
                f'{path}: not a safetensors file: its header cannot be read ({type(error).__name__}: {error})'
            ) from None
        data = np.memmap(path, np.uint8, 'r', offset=8 + length) if size > 8 + length else np.zeros(0, np.uint8)
        arrays = {}
        for name, (kind, shape, begin, end) in places.items():
            if not 0 <= begin <= end <= len(data) or end - begin != math.prod(shape) * np.dtype(kind).itemsize:
                raise WeightsError(
                    f'{path}: {name} of shape {shape} should be at bytes {begin} to {end} of {len(data)}: the file is '
                    'cut off or damaged'
                )
            numbers = np.frombuffer(data[begin:end].tobytes(), kind).reshape(shape)
            if described[name]['dtype'] == 'BF16':  # the upper half of float32
                numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
            arrays[name] = numbers.astype(np.float32)
        return arrays


def _place(about: dict) -> tuple[str, tuple[int, ...], int, int]:
    shape = tuple(int(side) for side in about['shape'])
    begin, end = (int(place) for place in about['data_offsets'])
    if any(side < 0 for side in shape):
        raise ValueError(f'a side of {min(shape)}')
    return _DTYPES[about['dtype']], shape, begin, end


def _keras(path: str) -> Arrays:
    """The data sets of a file that Keras's save_weights or save wrote, by layer and array: conv1/kernel."""
    problem = problem_of_hdf5(path, ())
    if problem is not None:
        raise WeightsError(f'{path}: not a file of weights in HDF5: {problem}')
    try:
        with h5py.File(path, 'r') as file:
            return _arrays_of(file, path)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise WeightsError(f'{path}: not a file of weights in HDF5: {" ".join(str(error).split())}') from None


def _arrays_of(file: h5py.File, path: str) -> Arrays:
    arrays: Arrays = {}

    def visit(name: str, item) -> None:
        parts = name.replace(':0', '').split('/')
        if not isinstance(item, h5py.Dataset) or parts[0] == _OPTIMISER or item.dtype.kind != 'f':
            return
        short = '/'.join(parts[-2:])
        if short in arrays:
            raise WeightsError(
                f'{path}: there are two arrays {short}: Keras wrote it without the names of layers, as its .weights.h5 '
                'files are; save the model whole, as .h5'
            )
        arrays[short] = np.asarray(item, np.float32)

    file.visititems(visit)
    return arrays


def _npz(path: str) -> Arrays:
    if not _begins_as_zip(path):
        raise WeightsError(f'{path}: this is no .npz: it does not begin as one')
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name].astype(np.float32) for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError, AttributeError) as error:
        why = 'it holds Python objects, which are not read' if 'allow_pickle' in str(error) else error
        raise WeightsError(f'{path}: not an .npz file of plain arrays ({why})') from None


def _begins_as_zip(path: str) -> bool:
    with open(path, 'rb') as file:
        return file.read(2) == b'PK'
