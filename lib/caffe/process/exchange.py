"""NCCL: what several solvers exchange, each a process of its own (BVLC's parallel.cpp), by torch.distributed.

NCCL carries it between GPUs, Gloo between CPUs. At the start the parameters of rank 0 go to all; in an iteration
the gradients of all passes are summed, in the order rank 0's passes, rank 1's, ..., whoever arrives first; momentum
never travels, for every rank makes the same update. Parameters travel in buckets, so that small ones do not cost a
message each, from the last layer down as the backward pass goes on (`layer_wise_reduce`).

Of a bucket each rank owns a slice: it gets that slice of every pass, adds them up and sends the sum to all. A rank
sends as little as a ring would, 2 (R - 1) / R of the gradient if it has one pass, and the order of the sum is given.
Factors of a gradient (`deferred.Product`) are sent instead where they are fewer bytes: every rank has the factors of
all passes then (Xie et al., 'Distributed Machine Learning via Sufficient Factor Broadcasting', 2014; Zhang et al.,
'Poseidon', USENIX ATC 2017).
"""

from __future__ import annotations

import atexit
import datetime
import os
import secrets
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor

import torch
import torch.distributed as dist

from caffe.blob import Blob
from caffe.gradients import Gradient, GradientSum
from caffe.kernels.deferred import Product
from caffe.process import device
from caffe.process.denormals import denormals_as_zero
from caffe.process.ranks import solver_count, solver_rank

BUCKET = 25 * 2**20
"""Bytes of gradients that travel together, unless one alone has more."""

_ZERO, _DENSE = -1, 0  # what a rank says of a gradient; a number above is the rows of its factors
_REQUESTS = (None, 'snapshot', 'stop')
_PATIENCE = datetime.timedelta(minutes=30)  # for ranks that test or write snapshots; the dead are noticed at once


def has_nccl() -> bool:
    """Whether `NCCL` works: wherever torch.distributed does."""
    return dist.is_available()


class NCCL:
    """The exchange between a solver and those of the other processes.

    uid: what `new_uid` returned, the same in all of them. Before it `caffe.set_solver_count` and
    `caffe.set_solver_rank` have to say how many there are and which this is; where torch.distributed has a group
    already, its size and rank have to be the same. As in Caffe, every solver computes a mini-batch of its own, and
    the update is that of their mean.

        nccl = caffe.NCCL(solver, uid)
        nccl.bcast()
        solver.add_callback(nccl)
        if solver.param.layer_wise_reduce:
            solver.net.after_backward(nccl)

    Beyond Caffe: wire, 'float32' or 'bf16', is what gradients travel as; factors, whether large ones may travel as two
    factors (last bits differ if they may not where they would); bytes_sent and bytes_as_matrices count what this rank
    has sent of gradients since the beginning, and what it would have without factors. seconds_exchanging is how long
    it was at that, seconds_waited how long the update had to wait for it: the rest was hidden behind the backward pass.
    """

    factors = True

    def __init__(self, solver, uid: str):
        self._solver = solver
        self._params: list[Blob] = solver.net.learnable_params.blobs
        self._count, self._rank = _join(uid)
        self._buckets = _buckets(solver.net)
        self._bucket_of = {i: n for n, (_, params) in enumerate(self._buckets) for i in params}
        self._passes: list[list[Gradient]] = []
        self._under_way = False  # an iteration
        self._sent: list[Future] = []  # one for each of its buckets so far
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='caffe-exchange')
        self.wire = 'float32'
        self.bytes_sent = self.bytes_as_matrices = 0
        self.seconds_exchanging = self.seconds_waited = 0.0

    @staticmethod
    def new_uid() -> str:
        """A name for a group of solvers, which says where rank 0 waits for the others.

        That is a free port of MASTER_ADDR, where the environment has it, or of this machine alone (127.0.0.1).
        """
        host = os.environ.get('MASTER_ADDR', '127.0.0.1')
        with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET) as found:
            found.bind((host, 0))
            port = found.getsockname()[1]
        return f'{host}|{port}|{secrets.token_hex(8)}'

    @property
    def solvers(self) -> int:
        """How many solvers there are."""
        return self._count

    @torch.no_grad()
    def bcast(self) -> None:
        """Gives the parameters of rank 0 to all."""
        for blob in self._params:
            dist.broadcast(blob.own(), src=0)

    # -- an iteration

    def on_start(self) -> None:
        """Called before an iteration."""
        self._passes = [[None] * len(self._params) for _ in range(self._solver.param.iter_size)]
        self._current, self._sent, self._under_way = 0, [], True

    def end_pass(self) -> None:
        """Called after each pass."""
        for i in range(len(self._params)):
            self._take(i)
        self._current += 1

    def __call__(self, layer: int) -> None:
        """Called after a layer's backward pass: sends the buckets that are full, in the last pass."""
        if not self._under_way or self._current != len(self._passes) - 1:
            return
        while len(self._sent) < len(self._buckets) and layer <= self._buckets[len(self._sent)][0]:
            self._send_next()

    def on_gradients_ready(self) -> None:
        """Called before the update: the diffs are the sums over all passes of all solvers then."""
        self._current = len(self._passes) - 1
        while len(self._sent) < len(self._buckets):
            self._send_next()
        for (_, params), sent in zip(self._buckets, self._sent, strict=True):
            began = time.perf_counter()
            gradients = sent.result()
            self.seconds_waited += time.perf_counter() - began
            for i, gradient in zip(params, gradients, strict=True):
                self._params[i].give_diff(gradient)
        self._under_way = False

    def mean(self, values: list[float]) -> list[float]:
        """The means over all solvers of some numbers, for the log."""
        mine = torch.tensor(values, dtype=torch.float64)  # in the thread, in whose order all ranks send
        return torch.stack(self._thread.submit(self._gathered, mine).result()).mean(dim=0).tolist()

    def agreed(self, request: str | None) -> str | None:
        """What any solver was asked to do: 'stop' before 'snapshot' before None, at all of them."""
        mine = torch.tensor([_REQUESTS.index(request)])
        return _REQUESTS[int(max(self._thread.submit(self._gathered, mine).result()))]

    def _take(self, i: int) -> None:
        gradient = self._params[i].take_diff()
        if gradient is not None:  # those of the last pass may have been taken already
            self._passes[self._current][i] = gradient

    def _send_next(self) -> None:
        _, params = self._buckets[len(self._sent)]
        for i in params:
            self._take(i)
        gradients = [[a_pass[i] for i in params] for a_pass in self._passes]
        shapes = [self._params[i].shape for i in params]
        self._sent.append(self._thread.submit(self._reduced, gradients, shapes, device.current()))

    # -- in the thread

    @torch.no_grad()
    @denormals_as_zero
    def _reduced(self, passes: list[list[Gradient]], shapes: list[tuple], where: torch.device) -> list[Gradient]:
        """The sums of a bucket over the passes of all ranks. passes: its gradients, of this rank's passes."""
        began = time.perf_counter()
        if where.type == 'cuda':
            torch.cuda.set_device(where)
        said = torch.tensor([[_said(g) for g in gradients] for gradients in passes])
        table = torch.cat(self._gathered(said)).tolist()  # all passes, rank 0's first
        results: list[Gradient] = [None] * len(shapes)
        columns = [[row[i] for row in table] for i in range(len(shapes))]
        as_factors = [i for i, said in enumerate(columns) if self._factors_are_less(said, shapes[i])]
        dense = [i for i, said in enumerate(columns) if i not in as_factors and max(said) > _ZERO]
        if as_factors:
            mine = [[gradients[i] for i in as_factors] for gradients in passes]
            for i, gradient in zip(
                as_factors,
                self._sum_factors(mine, [columns[i] for i in as_factors], [shapes[i] for i in as_factors], where),
                strict=True,
            ):
                results[i] = gradient
        if dense:
            mine = [[gradients[i] for i in dense] for gradients in passes]
            for i, gradient in zip(
                dense,
                self._sum_dense(mine, [columns[i] for i in dense], [shapes[i] for i in dense], where),
                strict=True,
            ):
                results[i] = gradient
        self.seconds_exchanging += time.perf_counter() - began
        return results

    def _gathered(self, mine: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all ranks, which have the same shape."""
        parts = [torch.empty_like(mine) for _ in range(self._count)]
        dist.all_gather(parts, mine)
        return parts

    def _matrix_bytes(self, passes: int, count: int) -> int:
        """What a rank sends of a gradient that is no product: its passes to the owners, its slice's sum to all."""
        return (passes + 1) * self._width() * count * (self._count - 1) // self._count

    def _width(self) -> int:
        return 2 if self.wire == 'bf16' else 4

    def _factors_are_less(self, said: list[int], shape: tuple) -> bool:
        """Whether all passes have factors, or nothing, and no rank sends more of them than of the matrix."""
        if not self.factors or max(said) <= 0 or _DENSE in said:
            return False
        per_rank = len(said) // self._count
        most = max(sum(max(rows, 0) for rows in said[r * per_rank :][:per_rank]) for r in range(self._count))
        n, k = shape
        return most * (n + k) * self._width() * (self._count - 1) < self._matrix_bytes(per_rank, n * k)

    def _sum_factors(self, passes, columns, shapes, where) -> list[Gradient]:
        parts = [part.reshape(-1) for gradients in passes for g in gradients if g for part in (g.a, g.b)]
        columns_of = [(said, n + k) for said, (n, k) in zip(columns, shapes, strict=True)]
        per_rank = len(passes)
        sizes = [
            sum(max(rows, 0) * width for said, width in columns_of for rows in said[r * per_rank :][:per_rank])
            for r in range(self._count)
        ]
        mine = torch.zeros(max(sizes), dtype=self._dtype(), device=where)
        if parts:
            mine[: sizes[self._rank]] = torch.cat(parts)
        everyone = [part.float() for part in self._gathered_as(mine)]
        self.bytes_sent += mine.numel() * self._width() * (self._count - 1)
        self.bytes_as_matrices += sum(self._matrix_bytes(per_rank, n * k) for n, k in shapes)
        sums = [GradientSum() for _ in shapes]
        for r, flat in enumerate(everyone):
            first = 0
            for p in range(per_rank):
                for total, said, (n, k) in zip(sums, columns, shapes, strict=True):
                    rows = said[r * per_rank + p]
                    if rows == _ZERO:
                        continue
                    a = flat[first : first + rows * n].view(rows, n)
                    b = flat[first + rows * n : first + rows * (n + k)].view(rows, k)
                    total.add(Product(a, b))
                    first += rows * (n + k)
        return [total.result() for total in sums]

    def _sum_dense(self, passes, columns, shapes, where) -> list[Gradient]:
        counts = [int(torch.Size(shape).numel()) for shape in shapes]
        size = -(-sum(counts) // self._count)  # of a slice
        mine = torch.zeros(len(passes), size * self._count, dtype=self._dtype(), device=where)
        for row, gradients in zip(mine, passes, strict=True):
            for part, gradient in zip(row.split([*counts, len(row) - sum(counts)]), gradients, strict=False):
                if gradient is not None:
                    part.copy_((gradient.laid_out() if isinstance(gradient, Product) else gradient).reshape(-1))
        sliced = mine.view(len(passes), self._count, size).transpose(0, 1).contiguous()
        mine_of_all = torch.empty_like(sliced)
        dist.all_to_all_single(self._bits(mine_of_all), self._bits(sliced))
        total = self._slice_sum(mine_of_all.view(-1, size), columns, counts)
        whole = torch.cat([part.float() for part in self._gathered_as(total.to(self._dtype()))])
        self.bytes_sent += (len(passes) + 1) * size * (self._count - 1) * self._width()
        self.bytes_as_matrices += (len(passes) + 1) * size * (self._count - 1) * self._width()
        parts = whole[: sum(counts)].split(counts)
        return [part.view(shape).clone() for part, shape in zip(parts, shapes, strict=True)]

    def _slice_sum(self, rows: torch.Tensor, columns: list[list[int]], counts: list[int]) -> torch.Tensor:
        """The sum of this rank's slice over all passes, row after row, passes that have no gradient left out."""
        size = rows.shape[1]
        total = torch.zeros(size, device=rows.device)
        first = -self._rank * size  # of the parameter, in the slice
        for said, count in zip(columns, counts, strict=True):
            part = slice(max(first, 0), max(min(first + count, size), 0))
            first += count
            if part.start >= part.stop:
                continue
            sums = GradientSum()
            for row, rows_of_factors in zip(rows, said, strict=True):
                if rows_of_factors != _ZERO:
                    sums.add(row[part].float() if row.dtype != torch.float32 else row[part].clone())
            result = sums.result()
            assert isinstance(result, torch.Tensor)  # some pass has a gradient, or nothing would be sent
            total[part] = result
        return total

    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.wire == 'bf16' else torch.float32

    def _bits(self, tensor: torch.Tensor) -> torch.Tensor:
        """As numbers of a type that every backend sends: Gloo sends no bf16."""
        return tensor.view(torch.uint8) if tensor.dtype == torch.bfloat16 and not tensor.is_cuda else tensor

    def _gathered_as(self, mine: torch.Tensor) -> list[torch.Tensor]:
        return [part.view(mine.dtype) for part in self._gathered(self._bits(mine))]


def _said(gradient: Gradient) -> int:
    if gradient is None:
        return _ZERO
    return len(gradient.a) if isinstance(gradient, Product) else _DENSE


def _join(uid: str) -> tuple[int, int]:
    """Meets the other solvers. Returns their number and this one's rank."""
    count, rank = solver_count(), solver_rank()
    if rank >= count:
        raise ValueError(f'solver_rank is {rank}, of {count} solvers numbered from 0: call caffe.set_solver_count too')
    if not dist.is_initialized():
        host, _, rest = str(uid).partition('|')
        port, _, token = rest.partition('|')
        if not port.isdigit():
            raise ValueError(f'NCCL takes the uid that caffe.NCCL.new_uid() returned in one process, not {uid!r}')
        if host in ('127.0.0.1', 'localhost', '::1') and not os.environ.get('GLOO_SOCKET_IFNAME'):
            os.environ['GLOO_SOCKET_IFNAME'] = _loopback()
        store = _store(host, int(port), count, rank)
        gpu = device.current().type == 'cuda'
        if gpu:
            torch.cuda.set_device(device.current())
        dist.init_process_group(
            'cpu:gloo,cuda:nccl' if gpu else 'gloo',
            store=dist.PrefixStore(token, store),
            rank=rank,
            world_size=count,
            timeout=_PATIENCE,
        )
        atexit.register(dist.destroy_process_group)  # its threads must not outlive the interpreter
    found = dist.get_world_size(), dist.get_rank()
    if found != (count, rank):
        raise ValueError(
            f'torch.distributed has rank {found[1]} of {found[0]}, caffe.set_solver_rank and set_solver_count say '
            f'{rank} of {count}'
        )
    return found


def _loopback() -> str:
    return next((name for _, name in socket.if_nameindex() if name.startswith('lo')), 'lo')


def _store(host: str, port: int, count: int, rank: int) -> dist.TCPStore:
    """Where ranks leave their addresses for each other. Rank 0 listens at this address, and at no other."""
    listening = None
    if rank == 0:
        with socket.create_server((host, port), family=socket.AF_INET6 if ':' in host else socket.AF_INET) as server:
            listening = os.dup(server.fileno())
    return dist.TCPStore(
        host, port, count, is_master=rank == 0, timeout=_PATIENCE, wait_for_workers=False, master_listen_fd=listening
    )


def _buckets(net) -> list[tuple[int, list[int]]]:
    """The parameters from the last down, in buckets: (layer after whose backward pass they are complete, indices)."""
    params = net.learnable_params.blobs
    first_layer = {}
    for at, node in reversed(list(enumerate(net.nodes))):
        for blob in node.layer.blobs:
            entry = next((i for i, param in enumerate(params) if blob is param or blob.shares_diff_with(param)), None)
            if entry is not None and node.need_backward:
                first_layer[entry] = at
    buckets: list[tuple[int, list[int]]] = []
    size = BUCKET
    for i in sorted(first_layer, key=lambda i: (-first_layer[i], i)):
        count = 4 * params[i].count
        if size + count > BUCKET:
            buckets.append((first_layer[i], []))
            size = 0
        size += count
        buckets[-1] = (first_layer[i], [*buckets[-1][1], i])
    return buckets
