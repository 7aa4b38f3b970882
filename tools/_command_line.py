"""What the tools share: the family's flags, and one clear message instead of a traceback."""

from __future__ import annotations

import argparse
import importlib.util
import os
import pprint
import sys
import traceback
from collections.abc import Callable

import _interrupts
import _standard_streams


def parser_of(doc: str) -> argparse.ArgumentParser:
    """A parser whose --help is a script's docstring: the first line above the flags, the rest below as it stands."""
    title, _, rest = doc.partition('\n')
    return argparse.ArgumentParser(
        description=title, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=rest.strip('\n')
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that every tool of the family takes: --gpu, --cfg, --set, --debug."""
    parser.add_argument(
        '--gpu', metavar='ID', help="GPU to use, by number, or 'cpu' (default: the first GPU, the CPU where none is)"
    )
    parser.add_argument(
        '--cfg', dest='cfg_file', metavar='FILE', help='YAML file of options that differ from the defaults'
    )
    parser.add_argument(
        '--set',
        dest='set_cfgs',
        nargs=argparse.REMAINDER,
        default=[],
        metavar='KEY VALUE',
        help='options to change, as the last of the flags: --set TRAIN.SCALES "[400, 500]" RNG_SEED 4',
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')


def configure(args: argparse.Namespace) -> None:
    """Applies --cfg, --set and --gpu to `cfg` and to Caffe, and prints what came of it."""
    with _interrupts.ending_at_once():
        import caffe
        from fast_rcnn.config import cfg, cfg_from_file, cfg_from_list

    print('Called with args:')
    print(args)
    if args.cfg_file is not None:
        cfg_from_file(args.cfg_file)
    if args.set_cfgs and args.set_cfgs[-1] == '--debug':  # --set takes all that follows it
        args.debug = True
        args.set_cfgs.pop()
    if args.set_cfgs:
        late = next((word for word in args.set_cfgs if word.startswith('--')), None)
        if late:
            raise ValueError(f'--set takes all that follows it as settings, {late} too: put {late} before --set')
        cfg_from_list(args.set_cfgs)
    if args.gpu is None:
        args.gpu = '0' if _has_gpu() else 'cpu'
        print(f'--gpu is not given: {"GPU 0" if args.gpu == "0" else "the CPU"} is used')
    if args.gpu.lower() == 'cpu':
        cfg.USE_GPU_NMS = False
        caffe.set_mode_cpu()
    else:
        if not args.gpu.isdigit():
            raise ValueError(f"--gpu takes the number of a GPU, or 'cpu'; it was given {args.gpu!r}")
        cfg.GPU_ID = int(args.gpu)
        try:
            caffe.set_mode_gpu()
            caffe.set_device(cfg.GPU_ID)
        except RuntimeError as error:
            raise RuntimeError(f'{error}. Here that is --gpu cpu') from None
    print('Using config:')
    pprint.pprint(cfg)


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


def run(main: Callable[[], int | None]) -> None:
    """Runs a tool's main and exits with its status. An error is one line and status 1; --debug shows its traceback."""
    prog = os.path.basename(sys.argv[0])
    _standard_streams.never_fail()
    _interrupts.raise_again()
    try:
        status = main() or 0
        _interrupts.end_at_once()
        sys.exit(status)
    except KeyboardInterrupt as stop:
        _interrupts.end_at_once()
        print(f'{prog}: {str(stop) or "interrupted"}', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        sys.stdout.flush()
        if '--debug' in sys.argv:
            traceback.print_exc()
        else:
            foreseen = isinstance(error, (ValueError, OSError, RuntimeError, ImportError))
            kind = '' if foreseen else f'{type(error).__name__}: '
            notes = ''.join(f' ({note})' for note in [*getattr(error, '__notes__', []), *_notes_on_import(error)])
            hint = '' if foreseen else ' (run again with --debug to see where)'
            print(f'{prog}: error: {kind}{error}{notes}{hint}', file=sys.stderr)
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
