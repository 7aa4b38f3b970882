"""The program of BVLC's python/train.py, written from its documentation: a process a device by multiprocessing.

    bvlc_train.py SOLVER OUT START_METHOD DEVICES [timing]

DEVICES: as many as there are to be processes. On a GPU machine they would be its GPUs; here all compute on the CPU, and
that, with what is written to OUT at the end, is all that differs from the pattern.
"""

import multiprocessing
import sys

import numpy as np

import caffe


def train(solver, out, method, devices, timing):
    uid = caffe.NCCL.new_uid()
    caffe.init_log()
    caffe.log(f'Using devices {devices}')
    processes = []
    for rank in range(len(devices)):
        process = multiprocessing.get_context(method).Process(
            target=solve, args=(solver, out, devices, timing, uid, rank)
        )
        process.daemon = True
        process.start()
        processes.append(process)
    for process in processes:
        process.join()
    return max(process.exitcode for process in processes)


def watch(solver, nccl):
    """Times each layer, the whole and the exchange, by hooks of the net and callbacks of the solver."""
    forward = [caffe.Timer() for _ in solver.net.layers]
    backward = [caffe.Timer() for _ in solver.net.layers]
    total, exchange = caffe.Timer(), caffe.Timer()

    def show():
        if solver.iter % solver.param.display == 0:
            lines = [f'forw {name}: {forward[i].ms:.2f}' for i, name in enumerate(solver.net._layer_names)]
            lines += [f'back {name}: {backward[i].ms:.2f}' for i, name in enumerate(solver.net._layer_names)]
            caffe.log('\n'.join([*lines, f'solver total: {total.ms:.2f}', f'allreduce: {exchange.ms:.2f}']))

    solver.net.before_forward(lambda layer: forward[layer].start())
    solver.net.after_forward(lambda layer: forward[layer].stop())
    solver.net.before_backward(lambda layer: backward[layer].start())
    solver.net.after_backward(lambda layer: backward[layer].stop())
    solver.add_callback(lambda: total.start(), lambda: (total.stop(), exchange.start()))
    solver.add_callback(nccl)
    solver.add_callback(lambda: '', lambda: (exchange.stop(), show()))


def solve(proto, out, devices, timing, uid, rank):
    caffe.set_mode_cpu()
    caffe.set_solver_count(len(devices))
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    solver = caffe.SGDSolver(proto)
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    if timing and rank == 0:
        watch(solver, nccl)
    else:
        solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    solver.step(solver.param.max_iter)
    arrays = {f'{name}/{k}': b.data for name, blobs in solver.net.params.items() for k, b in enumerate(blobs)}
    np.savez(f'{out}_{rank}.npz', **arrays)


if __name__ == '__main__':
    solver_file, out_prefix, start_method, count, *flags = sys.argv[1:]
    sys.exit(train(solver_file, out_prefix, start_method, list(range(int(count))), 'timing' in flags))
