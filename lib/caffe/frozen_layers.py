"""The first layers of a net, where they learn nothing: what they make of an image is kept, not computed again."""

from __future__ import annotations

import functools
import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch

from caffe.blob import Blob
from caffe.files.packed_folder import PackedFolder
from caffe.glog import log
from caffe.kernels import convolution, matrix
from caffe.kernels.host_memory import check_room
from caffe.kernels.packing import Packed
from caffe.kernels.processor import model, words
from caffe.node import Node
from caffe.process import device
from caffe.process.denormals import denormals_as_zero
from caffe.process.precision import get_precision
from caffe.proto import caffe_pb2

# Types whose tops follow from bottoms and parameters alone, and which keep nothing for another pass. BatchNorm and
# Pooling are such in some of their forms: `_why_not`.
_SAME_AGAIN = {
    'AbsVal', 'Axpy', 'Bias', 'Clip', 'Concat', 'Convolution', 'ConvolutionDepthwise', 'Deconvolution',
    'DepthwiseConvolution', 'ELU', 'Eltwise', 'LRN', 'Power', 'PReLU', 'ReLU', 'ReLU6', 'Scale', 'ShuffleChannel',
    'Sigmoid', 'Split', 'Swish', 'TanH',
}  # fmt: skip


class FrozenLayers:
    """The frozen layers at the beginning of a net, and what they made of the images so far.

    They begin with the first layer that has parameters; each further one reads nothing but what these read and make,
    learns nothing, is reached by no gradient, and makes the same of the same. What later layers read of their tops is
    kept, packed without loss, up to `gib` GiB: in the memory of the process, or with `folder` in files there, which
    other processes and later runs take too. When that is full no more is added, and nothing thrown out: where images
    come round one after another, what was not used for longest is needed next.

    An image is known by a digest of the numbers that the first layer reads. The parameters are looked at in every pass:
    when they, the precision or the number of threads have changed, what was kept before does not serve, and what is in
    memory is forgotten. Files are known by the layers, the processor and this engine's source too.

    Attributes: first, last: the names of the first and the last layer, Splits aside. span: their numbers in the net.
    hits, misses: the passes that took what was kept, and those that computed. nbytes: the memory taken, or
    what the files of the folder take. Raises ValueError where no layer is frozen, on a GPU, and for a limit that is not
    positive or more than the memory left, OSError for a folder that cannot be written to.
    """

    def __init__(self, nodes: list[Node], gib: float, folder: str | os.PathLike | None = None):
        if not 0 < gib < 2**33:  # bytes are counted in 64 bits
            raise ValueError(f'what frozen layers make is kept in a number of GiB above 0; it was given {gib:g}')
        if device.has_own_memory():
            raise ValueError('what frozen layers make is kept on the CPU alone: a GPU has computed it as fast')
        limit = int(gib * 2**30)
        if folder is None:
            check_room(limit, 'to keep what frozen layers make')
        self._nodes, self.span = _frozen(nodes)
        names = [node.name for node in self._nodes if node.layer.type != 'Split']
        self.first, self.last = names[0], names[-1]
        self._inputs = list(self._nodes[0].bottoms)
        made = list({id(top): top for node in self._nodes for top in node.tops}.values())
        read_later = {id(blob) for node in nodes[self.span.stop :] for blob in node.bottoms}
        self._tops: list[Blob] = []  # of blobs that share their data the first stands for all
        for blob in made:
            if id(blob) in read_later and not _is_held(blob, self._tops):
                self._tops.append(blob)
        self._inner = [blob for blob in made if not _is_held(blob, self._tops)]
        called = {id(top): name for node in self._nodes for name, top in zip(node.top_names, node.tops, strict=True)}
        self._top_names = [called[id(top)] for top in self._tops]
        self._kept = _InMemory(limit) if folder is None else PackedFolder(folder, limit)
        self._is_full = False
        self._conditions: tuple = ()  # what may change of that which the tops follow from, images aside
        self._surroundings = b''  # a digest of all of that which the tops follow from, images aside
        self._image = b''  # the digest of the last one
        self.hits = self.misses = 0

    @property
    def nbytes(self) -> int:
        return self._kept.nbytes

    def forward(self) -> None:
        """The forward pass of these layers. Their inner blobs are computed only if somebody reads them."""
        if device.has_own_memory():  # since the user has changed the mode
            self._compute()
            return
        conditions, self._image = self._read_conditions(), self._digest()
        if conditions != self._conditions:
            self._conditions, self._surroundings, self._is_full = conditions, self._digest_surroundings(), False
            self._kept.clear()
        kept = self._kept.get(self._surroundings + self._image)
        if kept is None:
            self.misses += 1
            self._compute()
            self._keep()
            return
        self.hits += 1
        for node in self._nodes:
            node.reshape()
        for blob in self._inner:
            blob.write_when_read(functools.partial(self._compute_late, blob))
        for top, numbers in zip(self._tops, kept, strict=True):
            numbers.unpack(top.memory_to_fill())

    def _compute(self) -> None:
        for node in self._nodes:
            node.forward()

    def _keep(self) -> None:
        if self._is_full:
            return
        packed = [Packed.of(top.read()) for top in self._tops]
        why_not = self._kept.add(self._surroundings + self._image, packed)
        if why_not is not None:
            self._is_full = True
            log(
                f'What layers {self.first} to {self.last} make of further images is not kept, but computed each time: '
                f'{why_not}',
                'net.cpp:1',
            )

    @torch.no_grad()
    @denormals_as_zero
    def _compute_late(self, blob: Blob) -> torch.Tensor:
        """The data of an inner blob that the last pass did without. Raises RuntimeError if these are lost."""
        if (self._conditions, self._image) != (self._read_conditions(), self._digest()):
            raise RuntimeError(
                f'the last pass did not compute layers {self.first} to {self.last}, and what they read, or their '
                'parameters, have changed since. Read blobs between them before that, or do without keep_frozen'
            )
        later = [top.read().clone() for top in self._tops]  # a layer further on may have worked in place
        self._compute()
        for top, numbers in zip(self._tops, later, strict=True):
            top.write(numbers)
        return blob.read()

    def _read_conditions(self) -> tuple:
        checksums = tuple(zlib.crc32(_bytes(blob)) for node in self._nodes for blob in node.layer.blobs)
        ways = convolution.NO_WINOGRAD, convolution.routes.forced, matrix.routes.forced
        return checksums, get_precision(), torch.get_num_threads(), ways

    def _digest(self) -> bytes:
        digest = hashlib.blake2b(digest_size=16)
        for blob in self._inputs:
            digest.update(f'{blob.shape}'.encode())
            digest.update(_bytes(blob))
        return digest.digest()

    def _digest_surroundings(self) -> bytes:
        digest = hashlib.blake2b(_digest_of_engine(), digest_size=16)
        digest.update(repr((model(), sorted(words()), _code_taken(), self._top_names, *self._conditions)).encode())
        for node in self._nodes:
            digest.update(node.layer.layer_param.SerializeToString(deterministic=True))
        return digest.digest()


class _InMemory:
    """Up to `limit` bytes of packed numbers; the methods are those of `PackedFolder`."""

    def __init__(self, limit: int):
        self._limit, self.nbytes = limit, 0
        self._arrays: dict[bytes, Sequence[Packed]] = {}

    def get(self, key: bytes) -> Sequence[Packed] | None:
        return self._arrays.get(key)

    def add(self, key: bytes, arrays: Sequence[Packed]) -> str | None:
        size = sum(packed.nbytes for packed in arrays)
        if self.nbytes + size > self._limit:
            return f'of {len(self._arrays)} it takes {self.nbytes / 2**30:.2f} GiB, and there is no room for more'
        self._arrays[key] = arrays
        self.nbytes += size
        return None

    def clear(self) -> None:
        self._arrays.clear()
        self.nbytes = 0


def _frozen(nodes: list[Node]) -> tuple[list[Node], range]:
    """The frozen layers, and their numbers. Raises ValueError where there are none, with the reason."""
    start = next((i for i, node in enumerate(nodes) if node.layer.blobs), None)
    if start is None:
        raise ValueError('this net has no frozen layers: none has parameters')
    inputs, stop = nodes[start].bottoms, start
    known = {id(blob) for blob in inputs}
    while stop < len(nodes) and not (why := _why_not(nodes[stop], inputs)):
        if not all(id(blob) in known for blob in nodes[stop].bottoms):
            break
        known.update(id(top) for top in nodes[stop].tops)
        stop += 1
    if stop == start:
        raise ValueError(
            f'this net has no frozen layers to begin with: the first with parameters, {nodes[start].name}, {why}'
        )
    return nodes[start:stop], range(start, stop)


def _why_not(node: Node, inputs: list[Blob]) -> str | None:
    """Why the layer is none of those whose tops can be kept; None if it is one. inputs: what the first one reads."""
    layer, param = node.layer, node.layer.layer_param
    if any(layer.param_propagate_down):
        return 'learns'
    if node.need_backward or node.losses:
        return 'has a backward pass' if node.need_backward else 'is a loss'
    if any(_is_held(top, inputs) for top in node.tops):
        return 'writes to what the first one reads'
    same = param.type in _SAME_AGAIN
    same |= param.type == 'Pooling' and param.pooling_param.pool != caffe_pb2.PoolingParameter.STOCHASTIC
    same |= param.type == 'BatchNorm' and param.batch_norm_param.use_global_stats
    return None if same else f'is of type {param.type}, which may make something else each time'


def _is_held(blob: Blob, others: list[Blob]) -> bool:
    return any(blob.shares_data_with(other) for other in others)


def _bytes(blob: Blob) -> memoryview:
    """The data, without a view that the blob would have to keep live."""
    return blob.read().cpu().contiguous().view(-1).numpy().data


def _code_taken() -> tuple:
    """What the user says of the instructions that torch's libraries may use: others round otherwise."""
    names = 'ATEN_CPU_CAPABILITY', 'DNNL_MAX_CPU_ISA', 'MKL_CBWR', 'MKL_ENABLE_INSTRUCTIONS', 'ONEDNN_MAX_CPU_ISA'
    return tuple(os.environ.get(name) for name in names)


@functools.cache
def _digest_of_engine() -> bytes:
    """Of this engine's source and torch's version, by which the last bits of a number may differ."""
    digest = hashlib.blake2b(torch.__version__.encode(), digest_size=16)
    for path in sorted(Path(__file__).parent.rglob('*.py')):
        digest.update(path.read_bytes())
    return digest.digest()
