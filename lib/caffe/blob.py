"""Blob: the data and diff of one array, as NumPy sees it and as the device has it (Caffe's blob.cpp, syncedmem.cpp).

Layers use tensors: `read`, `write`, `read_diff`, `write_diff`, `add_diff`. Users of pycaffe use arrays: `data`, `diff`.
Both see one memory. `write` adopts the tensor that it is given instead of copying it, unless somebody still holds a
NumPy view of the old memory. So views stay live, and where there are none nothing is copied.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import numpy as np
import torch

from caffe.kernels.deferred import CopyOf, Product, Rows, factors_save
from caffe.kernels.host_memory import check_room, zeros_with_own_pages
from caffe.kernels.matrix import multiply
from caffe.process import device, precision

# What an update works on at a time (`replace_diffs`): numbers that stay in the cache over the steps of its rule, so
# that each comes from memory once, not once a step. A GPU's time goes to launches.
_PORTION, _PORTION_OF_A_GPU = 2**18, 2**26
MAX_COUNT = 2**31 - 1  # INT_MAX: what a blob of Caffe can count


class SyncedArray:
    """float32 memory with a host copy and, in GPU mode, a device copy; it knows which is the newest.

    Never-written memory reads as zeros and is not allocated until it is read. One SyncedArray may serve several blobs
    of different shapes (shared parameters, Split, Reshape).
    """

    __slots__ = ('_deferred', '_device', '_filled', '_host', '_newest', '_view')

    def __init__(self):
        self._host: torch.Tensor | None = None
        self._device: torch.Tensor | None = None
        self._newest = 'nowhere'  # 'nowhere' (all zeros), 'host', 'device', 'both' or 'deferred' (not laid out yet)
        self._deferred: Rows | Product | CopyOf | None = None  # with 'deferred': what the values are
        self._filled = False  # whether `memory_to_fill` was called since the last write
        self._view = None  # weak reference to the flat NumPy view of _host; every array handed out has it as base

    @property
    def is_zero(self) -> bool:
        """True while nothing was written since the beginning or the last `clear`."""
        return self._newest == 'nowhere'

    def _has_viewers(self) -> bool:
        return self._view is not None and self._view() is not None

    def _zeros(self, old: torch.Tensor | None, count: int, where: torch.device) -> torch.Tensor:
        if old is not None and old.numel() >= count and old.is_contiguous():
            return old.zero_()
        if where.type == 'cpu':
            return zeros_with_own_pages(count)
        return torch.zeros(count, dtype=torch.float32, device=where)

    def _host_tensor(self, count: int) -> torch.Tensor:
        """The newest values in host memory."""
        self._lay_out()
        if self._newest == 'device':
            assert self._device is not None
            self._host = device.to_host(self._device, self._host)
            self._newest = 'both'
        elif self._newest == 'nowhere' or self._host is None or self._host.numel() < count:
            self._host = self._zeros(self._host, count, torch.device('cpu'))
            self._newest = 'host'
        return self._host

    def read(self, shape: tuple[int, ...], count: int) -> torch.Tensor:
        """The newest values on the compute device, `count` of them as this shape. Not to be changed."""
        if self._newest == 'host' and not device.has_own_memory():
            assert self._host is not None
            if self._host.shape == shape:  # as nearly always within a pass: nothing else is asked
                return self._host
        return self._as(shape, count, self._newest_values(count))

    def _as(self, shape: tuple[int, ...], count: int, tensor: torch.Tensor) -> torch.Tensor:
        """A copy of the values in this shape, in which it stays: a new view takes as long as a small layer."""
        if tensor.numel() != count:
            return tensor.reshape(-1)[:count].view(shape)
        view = tensor.view(shape)
        if tensor is self._host:
            self._host = view
        elif tensor is self._device:
            self._device = view
        return view

    def _newest_values(self, count: int) -> torch.Tensor:
        """The newest values on the compute device; at least `count` elements of any shape."""
        if not device.has_own_memory():
            return self._host_tensor(count)
        self._lay_out()
        if self._newest == 'host':
            self._device = device.to_device(self._host_tensor(count))
            self._newest = 'both'
        elif self._newest == 'nowhere' or self._device is None or self._device.numel() < count:
            self._device = self._zeros(self._device, count, device.current())
            self._newest = 'device'
        elif self._device.device != device.current():  # the user changed the GPU
            self._device = self._device.to(device.current())
        return self._device

    @property
    def deferred(self) -> Rows | Product | CopyOf | None:
        """What the newest values are, while they are not laid out in memory."""
        return self._deferred

    def defer(self, value: Rows | Product | CopyOf) -> None:
        """Makes `value` the newest values, laid out only when somebody reads them; at once where a view is held."""
        self.release()
        self._deferred, self._newest = value, 'deferred'
        if self._has_viewers() and not device.has_own_memory():
            self._lay_out()

    def _lay_out(self) -> None:
        if self._deferred is not None:
            self.write(self._deferred.laid_out())

    def release(self) -> None:
        """Frees the memory unless somebody holds a view of it. The values are undefined until the next write."""
        if not self._has_viewers():
            self._host = self._view = self._device = self._deferred = None
            self._newest = 'nowhere'

    def give_up(self) -> bool:
        """`release`, and whether it could be done."""
        self.release()
        return self.is_zero

    def own(self, shape: tuple[int, ...], count: int) -> torch.Tensor:
        """The newest values on the compute device, to be changed in place: that copy becomes the newest."""
        tensor = self.read(shape, count)
        self._newest = 'device' if device.has_own_memory() else 'host'
        return tensor

    def memory_to_fill(self, shape: tuple[int, ...], count: int) -> torch.Tensor:
        """Memory on the compute device for values that the caller writes whole; until then it holds anything."""
        self._deferred, self._filled = None, True
        memory = self._device if device.has_own_memory() else self._host
        if memory is None or memory.numel() < count or not memory.is_contiguous() or memory.device != device.current():
            where = device.current()
            on_host = where.type == 'cpu'
            memory = zeros_with_own_pages(count) if on_host else torch.empty(count, dtype=torch.float32, device=where)
        if device.has_own_memory():
            self._device, self._newest = memory, 'device'
        else:
            if memory is not self._host:
                self._host, self._view = memory, None
            self._newest = 'host'
        return memory if memory.shape == shape else self._as(shape, count, memory)

    def write(self, tensor: torch.Tensor) -> None:
        """Takes `tensor` (on the compute device) as the newest values; it belongs to this array from now on.

        It may lie in the memory that `memory_to_fill` gave: then nothing moves.
        """
        self._deferred = None
        in_place = self._filled and _begins_in(self._device if device.has_own_memory() else self._host, tensor)
        self._filled = False
        if device.has_own_memory():
            if not in_place:
                self._device = tensor
            self._newest = 'device'
            return
        if not in_place and tensor is not self._host:
            if self._has_viewers() and self._host is not None and self._host.numel() >= tensor.numel():
                self._host.view(-1)[: tensor.numel()].copy_(tensor.reshape(-1))
            else:
                self._host = tensor
                self._view = None
        self._newest = 'host'

    def clear(self) -> None:
        """Sets all to zero; memory is touched only where a NumPy view has to see it."""
        self._deferred = None
        if self._has_viewers() and self._host is not None and not device.has_own_memory():
            self._host.zero_()
            self._newest = 'host'
        else:
            self._newest = 'nowhere'

    def array(self, count: int) -> np.ndarray:
        """A flat writable NumPy view of the host copy, which becomes the newest (the caller may write to it)."""
        host = self._host_tensor(count)
        self._newest = 'host'
        flat = self._view() if self._view is not None else None
        if flat is None or flat.size != host.numel() or flat.ctypes.data != host.data_ptr():
            if not host.is_contiguous():
                host = self._host = host.contiguous()
            flat = host.view(-1).numpy()
            self._view = weakref.ref(flat)
        return flat


def _begins_in(memory: torch.Tensor | None, tensor: torch.Tensor) -> bool:
    """Whether `tensor` is the first numbers of `memory`, both laid out without gaps."""
    return memory is tensor or (
        memory is not None and memory.data_ptr() == tensor.data_ptr() and memory.numel() >= tensor.numel() > 0
        and memory.is_contiguous()
    )  # fmt: skip


class Blob:
    """An N-dimensional float32 array with data and diff.

    `data` and `diff` are writable NumPy views of the live memory, of shape `shape`. As in Caffe, reading either of them
    in GPU mode brings the newest values to the host and makes the host copy the newest.
    """

    __slots__ = ('__weakref__', '_count', '_data', '_diff', '_shape')

    def __init__(self, *shape: int):
        self._data = SyncedArray()
        self._diff = SyncedArray()
        self._shape: tuple[int, ...] = ()
        self._count = 1
        self.reshape(*shape)

    # -- pycaffe's side

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def count(self) -> int:
        return self._count

    def _legacy_axis(self, axis: int) -> int:
        if len(self._shape) > 4:
            raise ValueError(
                f'num, channels, height and width are for blobs of at most 4 axes; this one has shape {self._shape}'
            )
        return self._shape[axis] if axis < len(self._shape) else 1

    num = property(lambda self: self._legacy_axis(0), doc='The first axis; 1 where the blob has none.')
    channels = property(lambda self: self._legacy_axis(1), doc='The second axis; 1 where the blob has none.')
    height = property(lambda self: self._legacy_axis(2), doc='The third axis; 1 where the blob has none.')
    width = property(lambda self: self._legacy_axis(3), doc='The fourth axis; 1 where the blob has none.')

    @property
    def data(self) -> np.ndarray:
        return self._data.array(self._count)[: self._count].reshape(self._shape)

    @data.setter
    def data(self, value: object) -> NoReturn:
        raise AttributeError('a blob owns its memory: write blob.data[...] = value, not blob.data = value')

    @property
    def diff(self) -> np.ndarray:
        return self._diff.array(self._count)[: self._count].reshape(self._shape)

    @diff.setter
    def diff(self, value: object) -> NoReturn:
        raise AttributeError('a blob owns its memory: write blob.diff[...] = value, not blob.diff = value')

    def reshape(self, *shape: Any) -> None:
        """Changes the shape, given as numbers or as one sequence of them.

        Values that still fit keep their place; memory that must grow starts as zeros.

        Raises ValueError for a negative axis, more than 32 axes (blob.hpp kMaxBlobAxes), more than 2^31 - 1 numbers
        (Blob::Reshape), or more than the memory that is left can hold.
        """
        if shape == self._shape and shape:  # as nearly always before a forward pass
            return
        if len(shape) == 1 and not np.isscalar(shape[0]):
            shape = tuple(shape[0])
        shape = tuple(int(n) for n in shape)
        if shape == self._shape and shape:
            return
        if len(shape) > 32 or any(n < 0 for n in shape):
            raise ValueError(f'a blob has at most 32 axes, none of them negative; got shape {shape}')
        count = math.prod(shape)
        if count > MAX_COUNT:
            raise ValueError(f'blob size exceeds INT_MAX: shape {shape} has {count} numbers, more than {MAX_COUNT}')
        if not device.has_own_memory():
            check_room(4 * count, f'a blob of shape {shape}')
        self._shape, self._count = shape, count

    # -- the layers' side

    def _fitting(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.numel() != self._count:
            raise ValueError(f'a tensor of shape {tuple(tensor.shape)} was written to a blob of shape {self._shape}')
        return tensor if tensor.is_contiguous() else tensor.contiguous()

    def read(self) -> torch.Tensor:
        """The data on the compute device, to be read only."""
        return self._data.read(self._shape, self._count)

    def write(self, tensor: torch.Tensor) -> None:
        """Makes a float32 tensor on the compute device the data; the blob owns it then: pass no view of another."""
        self._data.write(self._fitting(tensor))

    def write_rows(self, rows: Rows) -> None:
        """Makes these the data, for tops whose rows repeat. Only readers of `rows` see them in this form."""
        if len(rows.index) * rows.width != self._count:
            raise ValueError(f'{len(rows.index)} rows of {rows.width} were written to a blob of {self._shape}')
        self._data.defer(rows)

    def write_when_read(self, values: Callable[[], torch.Tensor]) -> None:
        """Makes what `values()` returns the data, once somebody reads them."""
        self._data.defer(CopyOf(values))

    @property
    def rows(self) -> Rows | None:
        """What `write_rows` was given, until somebody reads the data: each distinct row is computed only once."""
        value = self._data.deferred
        return value if isinstance(value, Rows) else None

    def own(self) -> torch.Tensor:
        """The data on the compute device, to be changed in place."""
        return self._data.own(self._shape, self._count)

    def memory_to_fill(self) -> torch.Tensor:
        """The data's memory, for a caller that writes all of it: to use it again is faster than to allocate."""
        return self._data.memory_to_fill(self._shape, self._count)

    def read_diff(self) -> torch.Tensor:
        """The diff on the compute device, to be read only."""
        return self._diff.read(self._shape, self._count)

    def write_diff(self, tensor: torch.Tensor) -> None:
        """Makes a float32 tensor on the compute device the diff; the blob owns it then."""
        self._diff.write(self._fitting(tensor))

    def own_diff(self) -> torch.Tensor:
        """The diff on the compute device, to be changed in place."""
        return self._diff.own(self._shape, self._count)

    def diff_memory_to_fill(self) -> torch.Tensor:
        """The diff's memory, for a caller that writes all of it (`memory_to_fill`)."""
        return self._diff.memory_to_fill(self._shape, self._count)

    def add_diff(self, tensor: torch.Tensor) -> None:
        """Adds to the diff, as parameters gather theirs over uses and sub-iterations."""
        if self._diff.is_zero and device.has_own_memory():
            self.write_diff(tensor)
        elif self._diff.is_zero:
            self.diff_memory_to_fill().copy_(tensor.view(self._shape))
        else:
            self.own_diff().add_(tensor)

    def add_product_diff(self, a: torch.Tensor, b: torch.Tensor, in_bf16: bool = False) -> None:
        """Adds aᵀ @ b to the diff of a matrix: a (M, N), b (M, K) float32 on the compute device.

        Of a large matrix and a few rows only the factors are kept until somebody reads the diff (`diff_product`).
        `in_bf16`: a product that is computed now is one of bfloat16, as `matrix.multiply`'s.
        """
        before = self.diff_product
        rows = len(a) + (len(before.a) if before else 0)
        if (before or self._diff.is_zero) and factors_save(rows, *self._shape) and not device.has_own_memory():
            self._diff.defer(before.plus(a, b) if before else Product(a.clone(), b.clone()))
            return
        fresh = self._diff.is_zero
        multiply(a.t(), b, self.diff_memory_to_fill() if fresh else self.own_diff(), not fresh, in_bf16)

    def take_diff(self) -> torch.Tensor | Product | None:
        """The diff: None where it is zero, factors, or a tensor of the blob's shape. The caller owns it; zero stays."""
        if self.diff_is_zero:
            return None
        value = self.diff_product or self.read_diff()
        if isinstance(value, torch.Tensor) and not self._diff.give_up():
            value = value.clone()
        self.clear_diff()
        return value

    def give_diff(self, value: torch.Tensor | Product | None) -> None:
        """Makes what `take_diff` returned, here or elsewhere, the diff."""
        if value is None:
            self.clear_diff()
        elif isinstance(value, Product):
            self._diff.defer(value)
        else:
            self.write_diff(value)

    @property
    def diff_product(self) -> Product | None:
        """The factors of the diff, while it was gathered by `add_product_diff` and nobody has read it."""
        value = self._diff.deferred
        return value if isinstance(value, Product) else None

    @property
    def data_is_zero(self) -> bool:
        """True while no data was written."""
        return self._data.is_zero

    @property
    def diff_is_zero(self) -> bool:
        """True while no diff was written since `clear_diff`."""
        return self._diff.is_zero

    def clear_diff(self) -> None:
        """Sets the diff to zero; memory is written only if somebody holds a NumPy view of it."""
        self._diff.clear()

    def share_data(self, other: Blob) -> None:
        """Uses the data memory of another blob of the same count from now on (Blob::ShareData)."""
        if self._count != other._count:
            raise ValueError(f'blobs that share data must have as many elements: {self._shape} and {other._shape}')
        self._data = other._data

    def share_diff(self, other: Blob) -> None:
        """Uses the diff memory of another blob of the same count from now on (Blob::ShareDiff)."""
        if self._count != other._count:
            raise ValueError(f'blobs that share diffs must have as many elements: {self._shape} and {other._shape}')
        self._diff = other._diff

    def shares_data_with(self, other: Blob) -> bool:
        return self._data is other._data

    def shares_diff_with(self, other: Blob) -> bool:
        return self._diff is other._diff

    def __repr__(self) -> str:
        return f'<caffe.Blob {"x".join(map(str, self._shape)) or "scalar"}>'


def replace_diffs(
    value: Callable[..., list[torch.Tensor] | tuple[torch.Tensor, ...]],
    params: Iterable[Sequence[Blob]],
    held_by: int | None,
) -> None:
    """Makes the diffs of parameters what `value` says, some numbers at a time.

    params: of each the blob and others of the same count. value(diffs, data, *data of the others) takes lists of
    tensors, one a parameter or part of one, and returns such a list; it may change what it is given in place. held_by:
    which of a parameter's others holds what `value` returns, where one does: a diff that is still two factors is then
    never laid out, neither before nor after.
    """
    at_once = _PORTION_OF_A_GPU if device.has_own_memory() else _PORTION
    together: list[Sequence[torch.Tensor]] = []

    def replace() -> None:
        if together:
            diffs, *others = zip(*together, strict=True)
            torch._foreach_copy_(diffs, value(diffs, *others))
            together.clear()

    count = 0
    for blob, *beside in params:
        tensors = [b.own() for b in (blob, *beside)]
        if held_by is not None and (product := blob.diff_product) is not None:
            for rows in product.row_portions(tensors, precision.uses_bf16_backward(product.a)):
                value(*([part] for part in rows))
            blob._diff.defer(CopyOf(beside[held_by].read))
            continue
        tensors = [blob.own_diff(), *tensors]
        few = blob.count <= at_once
        for portion in [tensors] if few else zip(*(t.view(-1).split(at_once) for t in tensors), strict=True):
            count += portion[0].numel()
            if count > at_once:
                replace()
                count = portion[0].numel()
            together.append(portion)
    replace()


class BlobVec(list):
    """The blobs of a layer: a list that can also make one, as Python layers with parameters expect."""

    def add_blob(self, *shape: int) -> Blob:
        """Appends a new blob of this shape, filled with zeros."""
        self.append(Blob(*shape))
        return self[-1]
