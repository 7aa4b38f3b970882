"""`python -m caffe <command>`: the caffe tool (tools/caffe.cpp), and more for prototxts at a shell.

Flags are the caffe tool's, with one dash or two. Results go to standard output, log lines to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback

import ranks
from caffe.command import device, draw, export, summary, test, time, train, upgrade, words
from command_line import interrupts, standard_streams
from command_line.error_line import error_line

COMMANDS = {
    'train': train,
    'test': test,
    'time': time,
    'summary': summary,
    'draw': draw,
    'upgrade': upgrade,
    'export': export,
    'device': device,
}


def parser() -> argparse.ArgumentParser:
    """The command line, described."""
    main, commands = words.parser()
    for name, module in COMMANDS.items():
        command = commands[name]
        command.description = (module.__doc__ or '').split('\n')[0]
        module.add_flags(command)
        command.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return main


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Returns the exit status: 0, 1 for an error (one line on stderr), 130 for Ctrl-C."""
    standard_streams.open_closed()
    interrupts.raise_again()
    args = parser().parse_args(words.with_two_dashes(sys.argv[1:] if argv is None else argv))
    try:
        COMMANDS[args.command].run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        if os.environ.get('RANK', '0') == '0':  # it may not have joined the others yet
            print('caffe: interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:  # caffe summary net.prototxt | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        else:
            place, whose = ranks.place(), ''
            ranks.wait_for_word(error)
            if place.rank:
                whose = f'[rank {place.rank} on {place.host}] '
            print(
                f'{whose}caffe {args.command}: error: {" ".join(error_line(error).split())}',
                file=sys.stderr,
                flush=True,
            )
        if ranks.count() > 1:
            ranks.give_up()
            os._exit(1)  # a thread may be waiting for ranks that are gone
        return 1
    return 0


if __name__ == '__main__':
    status = main()
    interrupts.end_at_once('caffe')
    sys.exit(status)
