"""What the tools share: the family's flags, and one clear message instead of a traceback."""

from __future__ import annotations

import argparse
import importlib.util
import os
import pprint
import re
import shlex
import sys
import traceback
from collections.abc import Callable

import ranks
from command_line import interrupts, standard_streams
from command_line.error_line import error_line
from ranks.devices import device_of_rank, devices_of
from ranks.launcher import end_with_launcher, launch


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose --help is a script's docstring: the first line above the flags, the rest below as it stands."""
    title, _, rest = (doc or '').partition('\n')  # python -OO leaves none
    return argparse.ArgumentParser(
        description=title, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=rest.strip('\n')
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that every tool of the family takes: --gpu, --cfg, --run, --set, --verbose, --debug."""
    parser.add_argument(
        '--gpu',
        metavar='ID',
        help="GPU to use, by number, or 'cpu' (default: the first GPU, the CPU where none is); training, testing: "
        "0,1,2,3 or 'all', a process each, or cpu:2, two processes on the CPU",
    )
    parser.add_argument(
        '--cfg', dest='cfg_file', metavar='FILE', help='YAML file of options that differ from the defaults'
    )
    parser.add_argument(
        '--run', metavar='NAME', help='a name for this run: results go to output/<EXP_DIR>/NAME, a folder of its own'
    )
    parser.add_argument(
        '--set',
        dest='set_cfgs',
        nargs=argparse.REMAINDER,
        default=[],
        metavar='KEY VALUE',
        help='options to change, as the last of the flags: --set TRAIN.SCALES "[400, 500]" RNG_SEED 4',
    )
    parser.add_argument('--verbose', action='store_true', help='print all settings, not only those that were changed')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')


def configure(args: argparse.Namespace) -> None:
    """Applies --cfg, --set and --gpu to `cfg` and to Caffe, and prints what came of it."""
    import caffe
    from fast_rcnn.config import cfg, cfg_from_file, cfg_from_list
    from fast_rcnn.precision import apply_precision

    print(f'Called with: {shlex.join(sys.argv[1:])}')
    if args.cfg_file is not None:
        cfg_from_file(args.cfg_file)
    while args.set_cfgs and args.set_cfgs[-1] in ('--debug', '--verbose'):  # --set takes all that follows it
        setattr(args, args.set_cfgs.pop().removeprefix('--'), True)
    if args.set_cfgs:
        late = next((word for word in args.set_cfgs if word.startswith('--')), None)
        if late:
            raise ValueError(f'--set takes all that follows it as settings, {late} too: put {late} before --set')
        cfg_from_list(args.set_cfgs)
    _note_copied(args, cfg.EXP_DIR)
    if args.run is not None:
        if not re.fullmatch(r'[\w.+-]*\w[\w.+-]*', args.run):
            raise ValueError(f'--run takes a name for a folder: letters, digits, . _ + -; given {args.run!r}')
        cfg.EXP_DIR = f'{cfg.EXP_DIR}/{args.run}'
    given, args.gpu = args.gpu, device_of_rank(args.gpu, ranks.place())
    if given is None and ranks.count() > 1 and not _has_gpu():
        args.gpu = 'cpu'
    if args.gpu is None:
        args.gpu = '0' if _has_gpu() else 'cpu'
        print(f'--gpu is not given: {"GPU 0" if args.gpu == "0" else "the CPU"} is used')
    devices = devices_of(args.gpu)
    if len(devices) > 1:
        raise ValueError(f'--gpu {args.gpu}: this tool runs on one device')
    args.gpu = devices[0]
    if args.gpu == 'cpu':
        cfg.USE_GPU_NMS = False
        caffe.set_mode_cpu()
    else:
        cfg.GPU_ID = int(args.gpu)
        try:
            caffe.set_mode_gpu()
            caffe.set_device(cfg.GPU_ID)
        except RuntimeError as error:
            several = f':{ranks.count()}' if ranks.count() > 1 else ''
            raise RuntimeError(f'{error}. Here that is --gpu cpu{several}') from None
    apply_precision()
    _print_settings(args.verbose)


def _print_settings(whole: bool) -> None:
    from fast_rcnn.config import cfg, changed_settings

    if whole:
        print('Using config:')
        pprint.pprint(cfg)
        return
    print('Settings that differ from the defaults (--verbose prints all):')
    for key, value in changed_settings().items():
        print(f'  {key}: {value.tolist() if hasattr(value, "tolist") else value}')


def _note_copied(args: argparse.Namespace, exp_dir: str) -> None:
    """Says so where a cfg has the output folder of one that comes along, of which it must be a copy."""
    ours = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'experiments', 'cfgs')
    copied = os.path.join(ours, f'{exp_dir}.yml')
    if args.cfg_file is None or 'EXP_DIR' in args.set_cfgs or not re.match('demo_|bccd_', exp_dir):
        return
    if os.path.isfile(copied) and os.path.realpath(os.path.dirname(args.cfg_file)) != os.path.realpath(ours):
        print(
            f'Note: {args.cfg_file} says EXP_DIR: {exp_dir}, as experiments/cfgs/{exp_dir}.yml, of which it seems a '
            f'copy: results would go among those of the demo, to output/{exp_dir}. Give EXP_DIR a name of its own'
        )


def _has_gpu() -> bool:
    """Whether there is a GPU that Caffe can use. A Caffe built for CPUs alone ends the process when it is asked."""
    import caffe

    if not os.path.exists('/dev/nvidia0'):
        return False
    try:
        caffe.set_mode_gpu()
    except RuntimeError:
        return False
    return True


def run(main: Callable[[], int | None], parse: Callable[[], argparse.Namespace] | None = None) -> None:
    """Runs a tool's main and exits with its status. An error is one line and status 1; --debug shows its traceback.

    parse: of a tool whose work several ranks can share, what checks its flags. It starts them itself, where --gpu
    names several devices, or is started as one of them, by torchrun.
    """
    prog = os.path.basename(sys.argv[0])
    standard_streams.never_fail()
    interrupts.raise_again()
    try:
        if parse is not None:
            _be_one_of_several(prog, parse)
        status = main() or 0
        (ranks.give_up if status else ranks.leave)()
        interrupts.end_at_once(prog)
        sys.exit(status)
    except KeyboardInterrupt as stop:
        interrupts.end_at_once(prog)
        if os.environ.get('RANK', '0') == '0':  # it may not have joined the others yet
            print(f'{prog}: {str(stop) or "interrupted"}', file=sys.stderr)
        (ranks.leave if getattr(stop, 'by_all_ranks', False) else ranks.give_up)()
        sys.exit(130)
    except Exception as error:
        ranks.wait_for_word(error)
        sys.stdout.flush()
        if '--debug' in sys.argv:
            traceback.print_exc()
        else:
            where = f' (rank 0 on {ranks.place().host})' if ranks.count() > 1 and ranks.is_root() else ''
            print(f'{prog}: error: {error_line(error, *_notes_on_import(error))}{where}', file=sys.stderr)
        sys.stderr.flush()
        if ranks.count() > 1:
            ranks.give_up()
            os._exit(1)  # a thread may be waiting for ranks that are gone
        sys.exit(1)


def _notes_on_import(error: Exception) -> list[str]:
    """What to say of a Caffe that comes first on the path and cannot be imported: its sources, never built."""
    missing = getattr(error, 'name', None) or ''
    if not isinstance(error, ImportError) or not missing.startswith('caffe'):
        return []
    spec = importlib.util.find_spec('caffe')
    folder = os.path.dirname(os.path.dirname(spec.origin)) if spec and spec.origin else 'another folder'
    return [
        f'caffe was found in {folder}, a Caffe that is not built: build it (make pycaffe), or take this folder from '
        'PYTHONPATH, and the one that comes with these tools is used'
    ]


def _be_one_of_several(prog: str, parse: Callable[[], argparse.Namespace]) -> None:
    """Starts the ranks that --gpu asks for, and exits as they do; or joins them, as one that was started."""
    if 'RANK' not in os.environ:
        gpu = getattr(parse(), 'gpu', None)
        devices = devices_of(gpu) if gpu is not None else ['']
        if len(devices) > 1:
            sys.exit(launch([sys.executable, *sys.argv], len(devices), prog))
        return
    end_with_launcher()
    place = ranks.join(prog)
    if place.rank:  # only rank 0 prints; what others complain of says whose it is
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), 'w')
        sys.stderr = _Marked(sys.stderr, f'[rank {place.rank} on {place.host}] ')


class _Marked:
    """A stream that begins every line with a mark."""

    def __init__(self, stream, mark: str):
        self._stream, self._mark, self._at_start = stream, mark, True

    def write(self, text: str) -> int:
        marked = ''.join(
            (self._mark if self._at_start or i else '') + line for i, line in enumerate(text.splitlines(True))
        )
        if text:
            self._at_start = text.endswith('\n')
        self._stream.write(marked)
        return len(text)

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str):
        return getattr(self._stream, name)
