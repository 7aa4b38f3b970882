"""The words of a command line, as far as they can be judged before torch is loaded, which takes seconds."""

from __future__ import annotations

import argparse
import re
import sys
from typing import NoReturn

from caffe.command import HELP


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """One line, and the status of any other error."""
        self.exit(1, f'{self.prog}: error: {message} ({self.prog} --help tells more)\n')


def parser() -> tuple[Parser, dict[str, argparse.ArgumentParser]]:
    """The command line, and the parser of each command, which has no flags yet."""
    main = Parser(prog='caffe', description='Trains, tests, measures and shows Caffe nets.')
    commands = main.add_subparsers(dest='command', metavar='command', required=True)
    return main, {name: commands.add_parser(name, help=words) for name, words in HELP.items()}


def with_two_dashes(words: list[str]) -> list[str]:
    """The words with --solver for -solver, as gflags takes it, and so do people's scripts."""
    return [f'-{word}' if re.match(r'-[a-z]{2}', word) else word for word in words]


def end_without_a_command(words: list[str]) -> None:
    """Ends the process as `main` would where these name no command: --help, none, or a misspelt one."""
    if words[:1] and words[0] in HELP:
        return
    main, _ = parser()
    main.parse_args(with_two_dashes(words))
    sys.exit(0)
