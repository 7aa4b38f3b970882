"""Caffe's binary files: weights (.caffemodel), solver states (.solverstate) and blobs (.binaryproto).

What is written here loads in Caffe, and the reverse: .caffemodel files of all three ages (V0, V1, V2), and
the HDF5 forms (.caffemodel.h5, .solverstate.h5), told apart by content. A .caffemodel is mapped, not read:
the arrays that come back are views of the file, whose pages the system fetches when they are looked at. They
are read-only.

Layouts: Net::ToProto and ToHDF5 (net.cpp), Blob::ToProto and FromProto (blob.cpp),
SnapshotSolverStateToBinaryProto and ...ToHDF5 (sgd_solver.cpp).
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import math
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from google.protobuf.message import Message

import whole_file
from caffe.files import wire
from caffe.files.upgrade import V0_TYPES, V1_TYPES
from caffe.proto import caffe_pb2

if TYPE_CHECKING:
    import h5py  # else where it is used: it takes a twentieth of a second, and few files are HDF5

HDF5_SIGNATURE = b'\x89HDF\r\n\x1a\n'
MAX_AXES = 32  # kMaxBlobAxes


class ModelFileError(ValueError):
    """A model file that cannot be read: `file`, `reason`, and the byte `offset` where it shows, or None."""

    def __init__(self, file: str, reason: str, offset: int | None = None):
        self.file, self.reason, self.offset = file, reason, offset
        super().__init__(f'{file}: {reason}' if offset is None else f'{file}, byte {offset}: {reason}')


class StoredBlob(NamedTuple):
    """A blob as a file holds it.

    data: float32, of the blob's shape. legacy: whether the file gives the shape as num, channels, height and
    width, which makes `data` 4-D. diff: like data, or None; files have it only if asked for (snapshot_diff).
    """

    data: np.ndarray
    legacy: bool = False
    diff: np.ndarray | None = None

    @property
    def is_finite(self) -> bool:
        """Whether all of the data are finite numbers."""
        return bool(np.isfinite(self.data.min(initial=0)) and np.isfinite(self.data.max(initial=0)))

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a blob of that shape takes this one (Blob::ShapeEquals): legacy has ones at the front."""
        shape = tuple(shape)
        if self.legacy:
            return len(shape) <= 4 and (1,) * (4 - len(shape)) + shape == self.data.shape
        return shape == self.data.shape


class State(NamedTuple):
    """A solver's state.

    learned_net: the file of the weights that belong to it, '' if it names none. solver_type: the type of the solver
    that wrote it, '' in files of BVLC Caffe, which do not say it.
    """

    iteration: int
    learned_net: str
    history: list[StoredBlob]
    current_step: int
    solver_type: str = ''


# ---- Weights


def read_weights(path: str | os.PathLike) -> list[tuple[str, str, list[StoredBlob | None]]]:
    """(name, type, blobs) of each layer in a .caffemodel or .caffemodel.h5 file, in order.

    Layers without blobs are included. The type is today's name ('Convolution'), or '' where the file has
    none: HDF5 files do not say it. In HDF5 files a parameter that is shared stands with its owner only; in
    another layer None takes its place before one that is there, and nothing after. Raises ModelFileError, and
    OSError for a file that cannot be opened.
    """
    path = os.fspath(path)
    buffer = _map(path, 'a .caffemodel')
    if buffer[:8] == HDF5_SIGNATURE:
        return _read_weights_hdf5(path)
    layers, forms = [], set()
    with _located(path, buffer, 'a .caffemodel'):
        for field in wire.fields(buffer, 0, len(buffer)):
            form = {100: 'layer', 2: 'layers'}.get(field.number)
            if field.kind != wire.BYTES and (form or field.number == 1):
                hint = ' (a .solverstate or .binaryproto, perhaps)' if field.number == 1 else ''
                raise wire.WireError(field.start, f'field {field.number} of a net is not of this kind{hint}')
            if form:
                forms.add(form)
                layer = _read_layer(buffer, field, _V2 if form == 'layer' else _V1)
                if layer[1] != 'padding':  # V0's, which the upgrade of a net takes out
                    layers.append(layer)
    if len(forms) != 1:
        raise ModelFileError(path, f'the net has {" and ".join(sorted(forms)) or "no layers"}: not a .caffemodel')
    return layers


def read_net_name(path: str | os.PathLike) -> str:
    """The name of the net that a .caffemodel is of; '' if it says none, as HDF5 files do. Raises as `read_weights`."""
    path = os.fspath(path)
    buffer = _map(path, 'a .caffemodel')
    if buffer[:8] == HDF5_SIGNATURE:
        return ''
    with _located(path, buffer, 'a .caffemodel'):
        for field in wire.fields(buffer, 0, len(buffer)):
            if field.number == 1 and field.kind == wire.BYTES:
                return _text(buffer, field)
    return ''


class _Form(NamedTuple):
    """The field numbers of a layer message."""

    name: int
    type: int
    blobs: int
    inner: int | None = None  # V1: the V0 layer inside


_V2, _V1, _V0 = _Form(1, 2, 7), _Form(4, 5, 6, inner=1), _Form(1, 2, 50)


def _read_layer(buffer, message: wire.Field, form: _Form) -> tuple[str, str, list[StoredBlob | None]]:
    name, kind = '', ''
    blobs: list[StoredBlob | None] = []
    for field in wire.inside(buffer, message):
        if field.number == form.name:
            name = _text(buffer, field)
        elif field.number == form.type and form is _V1:
            kind = V1_TYPES.get(field.value, '')
        elif field.number == form.type:
            kind = _text(buffer, field)
        elif field.number == form.blobs:
            blobs.append(_read_blob(buffer, field))
        elif field.number == form.inner:
            name, kind, inner_blobs = _read_layer(buffer, field, _V0)
            kind = V1_TYPES[V0_TYPES[kind]] if kind in V0_TYPES else kind
            blobs += inner_blobs
    return name, kind, blobs


def write_weights(
    path: str | os.PathLike,
    net_name: str,
    layers: Iterable[tuple[Message, Sequence[tuple[np.ndarray, np.ndarray | None]]]],
) -> None:
    """Writes a .caffemodel, byte for byte as Caffe would.

    layers: for each layer its LayerParameter, whose own blobs are not looked at, and (data, diff or None) of
    each of its blobs. They are taken one by one, and float32 arrays are not copied. The file appears whole or
    not at all (whole_file.write).
    """
    whole_file.write(path, _net_pieces(net_name, layers))


def _net_pieces(net_name: str, layers) -> Iterator[bytes]:
    yield caffe_pb2.NetParameter(name=net_name).SerializeToString()
    for layer, blobs in layers:
        # A message's fields are written in the order of their numbers, and the blobs have number 7.
        before, after = (_serialized_part(layer, part) for part in (range(0, 7), range(8, 2**29)))
        middle = [piece for data, diff in blobs for piece in _blob_pieces(7, data, diff)]
        size = sum(memoryview(piece).nbytes for piece in middle)
        yield wire.delimited(100, len(before) + size + len(after)) + before
        yield from middle
        yield after


def _serialized_part(message: Message, numbers: range) -> bytes:
    part = type(message)()
    part.CopyFrom(message)
    for field, _ in message.ListFields():
        if field.number not in numbers:
            part.ClearField(field.name)
    return part.SerializePartialToString(deterministic=True)


# ---- Solver states


def read_state(path: str | os.PathLike) -> State:
    """A .solverstate or .solverstate.h5 file. Raises ModelFileError, OSError if it cannot be opened."""
    path = os.fspath(path)
    buffer = _map(path, 'a .solverstate')
    if buffer[:8] == HDF5_SIGNATURE:
        return _read_state_hdf5(path)
    iteration, learned_net, history, current_step, solver_type = None, '', [], 0, ''
    with _located(path, buffer, 'a .solverstate'):
        for field in wire.fields(buffer, 0, len(buffer)):
            if field.number == 1:
                if field.kind != wire.VARINT:
                    raise wire.WireError(field.start, 'an iteration is expected here (a .caffemodel, perhaps?)')
                iteration = wire.signed(field.value)
            elif field.number == 2:
                learned_net = _text(buffer, field)
            elif field.number == 3:
                history.append(_read_blob(buffer, field))
            elif field.number == 4:
                current_step = wire.signed(field.value)
            elif field.number == 100:
                solver_type = _text(buffer, field)
    if iteration is None:
        raise ModelFileError(path, 'no iteration in it: not a .solverstate')
    return State(iteration, learned_net, history, current_step, solver_type)


def write_state(
    path: str | os.PathLike,
    iteration: int,
    learned_net: str,
    history: Iterable[np.ndarray],
    current_step: int,
    solver_type: str = '',
) -> None:
    """Writes a .solverstate, in its HDF5 form if the path ends in .h5. It appears whole or not at all.

    Byte for byte as Caffe would, except for solver_type, a field that Caffe skips.
    """
    if os.fspath(path).endswith('.h5'):
        pieces = _hdf5_image(_fill_state_hdf5, iteration, learned_net, history, current_step, solver_type)
    else:
        pieces = _state_pieces(iteration, learned_net, history, current_step, solver_type)
    whole_file.write(path, pieces)


def _state_pieces(iteration: int, learned_net: str, history, current_step: int, solver_type: str) -> Iterator[bytes]:
    yield caffe_pb2.SolverState(iter=iteration, learned_net=learned_net).SerializeToString()
    for array in history:
        yield from _blob_pieces(3, array, None)
    end = caffe_pb2.SolverState(current_step=current_step)
    if solver_type:
        end.solver_type = solver_type
    yield end.SerializeToString()


# ---- Blobs


def read_blobproto(path: str | os.PathLike) -> StoredBlob:
    """The blob in a .binaryproto file, such as a mean image. Raises ModelFileError and OSError."""
    path = os.fspath(path)
    buffer = _map(path, 'a .binaryproto')
    with _located(path, buffer, 'a .binaryproto'):
        return _read_blob(buffer, wire.Field(0, wire.BYTES, 0, len(buffer)))


def write_blobproto(path: str | os.PathLike, data: np.ndarray, diff: np.ndarray | None = None) -> None:
    """Writes a blob as a .binaryproto file. It appears whole or not at all."""
    whole_file.write(path, _blob_pieces(None, data, diff))


def _read_blob(buffer, message: wire.Field) -> StoredBlob:
    """Blob::FromProto."""
    dims: list[int] = []
    legacy: dict[int, int] = {}
    numbers: dict[str, list[np.ndarray]] = {'data': [], 'diff': [], 'double_data': [], 'double_diff': []}
    names = {5: 'data', 6: 'diff', 8: 'double_data', 9: 'double_diff'}
    for field in wire.inside(buffer, message):
        if 1 <= field.number <= 4:
            legacy[field.number] = wire.signed(field.value)
        elif field.number == 7:
            for part in wire.inside(buffer, field):
                if part.number == 1:
                    dims.extend(itertools.islice(wire.integers(buffer, part), MAX_AXES + 1))
        elif field.number in names:
            name = names[field.number]
            numbers[name].append(wire.floats(buffer, field, '<f8' if name.startswith('double') else '<f4'))
    shape = [legacy.get(i, 0) for i in (1, 2, 3, 4)] if legacy else dims[: MAX_AXES + 1]
    if len(shape) > MAX_AXES or not all(0 <= dim < 2**31 for dim in shape):
        raise wire.WireError(message.start, f'{shape} is not the shape of a blob')
    data = _joined(numbers['double_data'] or numbers['data'], shape, message)
    diffs = numbers['double_diff'] or numbers['diff']
    return StoredBlob(data, bool(legacy), _joined(diffs, shape, message) if diffs else None)


def _joined(parts: list[np.ndarray], shape: list[int], message: wire.Field) -> np.ndarray:
    """The parts as one float32 array of the given shape; of one packed float field, the view itself."""
    count = sum(part.size for part in parts)
    if count != math.prod(shape):
        raise wire.WireError(message.start, f'a blob of shape {shape} has {math.prod(shape)} numbers, not {count}')
    flat = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
    return flat.astype(np.float32, copy=False).reshape(shape)


def _blob_pieces(number: int | None, data: np.ndarray, diff: np.ndarray | None) -> list[Any]:
    """A blob as Blob::ToProto writes it: data, diff, shape. number: of the field that it is, or None."""
    data = np.asarray(data, '<f4', order='C')
    pieces: list[Any] = []
    for field, array in ((5, data), (6, diff)):
        if array is not None and array.size:
            array = np.asarray(array, '<f4', order='C')
            pieces += [wire.delimited(field, array.nbytes), array]
    if data.ndim:
        shape = caffe_pb2.BlobShape(dim=data.shape).SerializeToString()
        pieces.append(wire.delimited(7, len(shape)) + shape)
    if number is not None:
        pieces.insert(0, wire.delimited(number, sum(memoryview(piece).nbytes for piece in pieces)))
    return pieces


# ---- Opening


def _map(path: str, kind: str) -> mmap.mmap:
    """The file, mapped. Whoever holds a view of it keeps it mapped, also after the file is replaced."""
    try:
        with open(path, 'rb') as file:
            if not os.fstat(file.fileno()).st_size:
                raise ModelFileError(path, f'an empty file, where {kind} is expected')
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        message = f'no such file, where {kind} is expected (relative paths start at {os.getcwd()})'
        raise FileNotFoundError(errno.ENOENT, message, path) from None
    except IsADirectoryError:
        raise IsADirectoryError(errno.EISDIR, f'a folder, where {kind} is expected', path) from None
    head = buffer[:512]
    for pattern, what in _FOREIGN:
        if re.match(pattern, head):
            raise ModelFileError(path, f'{what}, where {kind} is expected')
    return buffer


# What people give instead, by its first bytes.
_FOREIGN = (
    (rb'(?i)\s*<(!doctype|html|\?xml)', 'a web page (download the file again)'),
    (rb'version https://git-lfs', 'a Git LFS pointer (fetch the file itself with: git lfs pull)'),
    (rb'PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc', 'a compressed archive (unpack it first)'),
    (rb'[\t\n\r -~]*\Z', 'a text file'),
)


@contextlib.contextmanager
def _located(path: str, buffer, kind: str):
    """Turns WireError into ModelFileError with advice."""
    try:
        yield
    except wire.WireError as error:
        advice = f'The file ({len(buffer)} bytes) is cut short, damaged, or not {kind} at all: copy it again'
        raise ModelFileError(path, f'{error.reason}. {advice}', error.offset) from None


def _text(buffer, field: wire.Field) -> str:
    if field.kind != wire.BYTES:
        raise wire.WireError(field.start, f'field {field.number} should be a name')
    text = buffer[field.start : field.stop]
    if b'\0' in text:
        raise wire.WireError(field.start, f'the name {text[:60]!r} has a zero byte in it')
    return text.decode('utf-8', errors='backslashreplace')


# ---- HDF5


def write_weights_hdf5(
    path: str | os.PathLike,
    layers: Iterable[tuple[Message, Sequence[tuple[np.ndarray, np.ndarray | None]], Sequence[bool]]],
    write_diff: bool = False,
) -> None:
    """Writes a .caffemodel.h5 as Net::ToHDF5 does: /data/<layer>/<i>, and /diff/<layer>/<i> with write_diff.

    layers: for each layer its LayerParameter, (data, diff or None) of each blob, and whether the layer owns
    each: data that another layer owns are not written again, diffs are. The file is made in memory first, so
    this needs as much memory again as the weights. It appears whole or not at all. Raises ValueError for
    names that HDF5 cannot hold.
    """
    whole_file.write(path, _hdf5_image(_fill_weights_hdf5, layers, write_diff))


def _hdf5_image(fill, *arguments) -> Iterator[bytes]:
    """An HDF5 file as bytes. Not made on the disk: when that is full, HDF5 crashes the process."""
    import h5py

    image = io.BytesIO()
    with h5py.File(image, 'w') as file:
        fill(file, *arguments)
    yield image.getvalue()


def _fill_weights_hdf5(file: h5py.File, layers, write_diff: bool) -> None:
    groups = [file.create_group(name) for name in (('data', 'diff') if write_diff else ('data',))]
    for layer, blobs, owned in layers:
        try:
            data, *diff = (group.create_group(layer.name) for group in groups)
        except ValueError as error:
            raise ValueError(
                f"the HDF5 form cannot hold a layer named '{layer.name}' (empty, or there twice): {error}. "
                'Name it otherwise, or use snapshot_format: BINARYPROTO'
            ) from error
        for i, (blob, own) in enumerate(zip(blobs, owned, strict=True)):
            if own:
                data.create_dataset(str(i), data=np.asarray(blob[0], '<f4'))
            if diff and blob[1] is None:
                raise ValueError(f"write_diff, but blob {i} of layer '{layer.name}' comes without its diff")
            if diff:
                diff[0].create_dataset(str(i), data=np.asarray(blob[1], '<f4'))


def _fill_state_hdf5(
    file: h5py.File, iteration: int, learned_net: str, history, current_step: int, solver_type: str
) -> None:
    file.create_dataset('iter', data=np.array([iteration], '<i4'))
    _create_text(file, 'learned_net', learned_net)
    if solver_type:
        _create_text(file, 'solver_type', solver_type)
    file.create_dataset('current_step', data=np.array([current_step], '<i4'))
    group = file.create_group('history')
    for i, array in enumerate(history):
        group.create_dataset(str(i), data=np.asarray(array, '<f4'))


def _create_text(file: h5py.File, name: str, text: str) -> None:
    """A null-terminated string, as H5LTmake_dataset_string has it."""
    import h5py

    data = text.encode()
    c_string = h5py.h5t.C_S1.copy()
    c_string.set_size(len(data) + 1)
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_obj_track_times(False)  # a state is the same bytes whenever it is written
    dataset = h5py.h5d.create(file.id, name.encode(), c_string, h5py.h5s.create(h5py.h5s.SCALAR), created)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(data, f'S{len(data) + 1}'), c_string)


def _read_text(file: h5py.File, name: str) -> str:
    """What `_create_text` wrote, '' where it is not there."""
    data = bytes(file[name][()]) if name in file else b''
    data = data.rstrip(b'\0')
    if b'\0' in data:
        raise ValueError(f'{name} is {data[:60]!r}, with a zero byte in it')
    return data.decode(errors='backslashreplace')


def _read_weights_hdf5(path: str) -> list[tuple[str, str, list[StoredBlob | None]]]:
    import h5py

    layers: dict[str, dict[int, StoredBlob]] = {}

    def visit(name: str | bytes, item) -> None:
        name = os.fsdecode(name)  # h5py gives bytes where they are no UTF-8
        if isinstance(item, h5py.Dataset):
            layer, _, number = name.rpartition('/')
            layers.setdefault(layer, {})[_number(path, number)] = _read_dataset(path, item)
            return
        parts_of_names = any(isinstance(part, h5py.Group) for part in item.values())  # 'inception_3a/1x1'
        if not parts_of_names:
            layers.setdefault(name, {})

    with _opened_hdf5(path) as file:
        if not isinstance(file.get('data'), h5py.Group):
            raise ModelFileError(path, "no group 'data' in it: an HDF5 file, but not a net's weights")
        file['data'].visititems(visit)
    return [
        (name, '', [blobs.get(i) for i in range(max(blobs, default=-1) + 1)]) for name, blobs in sorted(layers.items())
    ]


def _read_state_hdf5(path: str) -> State:
    with _opened_hdf5(path) as file:
        if 'iter' not in file or 'history' not in file:
            raise ModelFileError(path, "no 'iter' and 'history' in it: an HDF5 file, but not a solver's state")
        group = file['history']
        if sorted(group) != sorted(str(i) for i in range(len(group))):
            raise ModelFileError(path, f'the history has {sorted(group)[:10]} in place of 0, 1, 2, ...')
        history = [_read_dataset(path, group[str(i)]) for i in range(len(group))]
        iteration, current_step = (int(np.ravel(file[name][()])[0]) for name in ('iter', 'current_step'))
        learned_net, solver_type = (_read_text(file, name) for name in ('learned_net', 'solver_type'))
    return State(iteration, learned_net, history, current_step, solver_type)


def _number(path: str, name: str) -> int:
    if not re.fullmatch('[0-9]{1,3}', name):
        raise ModelFileError(path, f"'{name}' is not the number of a parameter: an HDF5 file, but not a net's weights")
    return int(name)


def _read_dataset(path: str, dataset: h5py.Dataset) -> StoredBlob:
    """hdf5_load_nd_dataset (util/hdf5.cpp), with the file's word for the size held against what it stores."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in 'fiu':
        raise ModelFileError(path, f'{dataset.name} does not hold numbers')
    gzip = 1 if dataset.chunks is None else 1100  # the most that HDF5's compression can gain
    if dataset.is_virtual or dataset.external or dataset.id.get_storage_size() * gzip < dataset.nbytes:
        raise ModelFileError(path, f'{dataset.name}, of shape {dataset.shape}, is not stored in full in this file')
    return StoredBlob(np.asarray(dataset[()], np.float32))


@contextlib.contextmanager
def _opened_hdf5(path: str):
    import h5py

    try:
        with h5py.File(path, 'r') as file:
            yield file
    except ModelFileError:
        raise
    except Exception as error:  # the library raises errors of many types, depending on what is damaged
        raise ModelFileError(path, f'a damaged HDF5 file: copy it again ({error})') from error
