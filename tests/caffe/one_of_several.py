"""One of several solvers that train together: a program that tests start, once for each rank.

    one_of_several.py SOLVER ITERATIONS RANK COUNT UID OUT [wire=bf16] [matrices] [gpu]

The pattern of BVLC's multi-GPU script, from its documentation: say how many and which, make the solver, make NCCL,
broadcast, add it as a callback and, layer by layer, to the net. Then it trains and writes what came of it to OUT.
The net's data come from `Passes`, which numbers the passes over all ranks. UID '-': no exchange.
"""

import sys

import numpy as np

import caffe


class Passes(caffe.Layer):
    """Data (4, K) and labels (4) of pass n: a function of n alone. `first`, `here`, `of_all`: see `number`."""

    first, here, of_all, seen = 0, 1, 1, 0

    def setup(self, bottom, top):
        self.size = int(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(4, self.size)
        top[1].reshape(4)

    def forward(self, bottom, top):
        iteration, k = divmod(self.seen, self.here)
        self.seen += 1
        n = iteration * self.of_all + self.first + k
        caffe.set_random_seed(n)
        rng = np.random.default_rng(n)
        top[0].data[...] = rng.standard_normal((4, self.size))
        top[1].data[...] = rng.integers(0, 3, 4)

    def backward(self, top, propagate_down, bottom):
        pass


def main(solver_file, iterations, rank, count, uid, out, *options):
    rank, count = int(rank), int(count)
    sys.modules['one_of_several'] = sys.modules['__main__']
    if 'gpu' in options:
        caffe.set_device(0)
        caffe.set_mode_gpu()
    else:
        caffe.set_mode_cpu()
    caffe.init_log()
    caffe.set_solver_count(count)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    solver = caffe.get_solver(solver_file)
    data = solver.net.layers[0]
    data.here = solver.param.iter_size
    data.first, data.of_all = rank * data.here, count * data.here
    nccl = None
    if uid != '-':
        nccl = caffe.NCCL(solver, uid)
        if 'wire=bf16' in options:
            nccl.wire = 'bf16'
        nccl.factors = 'matrices' not in options
        nccl.bcast()
        solver.add_callback(nccl)
        if solver.param.layer_wise_reduce:
            solver.net.after_backward(nccl)
    solver.step(int(iterations))
    arrays = {f'{name}/{k}': b.data for name, blobs in solver.net.params.items() for k, b in enumerate(blobs)}
    arrays |= {f'history/{i}': blob.data for i, blob in enumerate(solver.history)}
    arrays |= {f'diff/{name}/{k}': b.diff for name, blobs in solver.net.params.items() for k, b in enumerate(blobs)}
    counted = [nccl.bytes_sent, nccl.bytes_as_matrices] if nccl else [0, 0]
    seconds = [nccl.seconds_exchanging, nccl.seconds_waited] if nccl else [0, 0]
    np.savez(out, bytes=counted, seconds=seconds, **arrays)


if __name__ == '__main__':
    main(*sys.argv[1:])
