"""--project NAME: what a project says takes the place of flags that are not given."""

from __future__ import annotations

import argparse
import os
from typing import Any


def add_project_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --project and --method."""
    parser.add_argument(
        '--project', metavar='NAME', help='a project that tools/new_project.py made: replaces the flags'
    )
    parser.add_argument(
        '--method',
        choices=('ohem', 'frcn', 'faster'),
        default='ohem',
        help='of a project: Fast R-CNN with OHEM or without, Faster R-CNN with it (default: ohem)',
    )


def project_of(args: argparse.Namespace) -> Any:
    """The project that --project names, its settings as --cfg; None without the flag."""
    if args.project is None:
        return None
    from projects.project import ProjectError, load_project

    project = load_project(args.project)
    if not os.path.isdir(project.path(args.method)):
        raise ProjectError(
            f'{project.folder} has no {args.method}: it was made by an older tools/new_project.py; make it anew'
        )
    if args.cfg_file is None:
        args.cfg_file = project.path(args.method, 'settings.yml')
    return project


def need(args: argparse.Namespace, **flags: str) -> None:
    """Raises ValueError unless each of these is given; they may be missing where a project says them."""
    missing = [flag for name, flag in flags.items() if getattr(args, name) is None]
    if missing:
        taken = [flag for flag in missing if flag in getattr(args, 'set_cfgs', ())]
        if taken:
            raise ValueError(
                f'--set takes all that follows it as settings, {taken[0]} too: put {taken[0]} before --set'
            )
        raise ValueError(f'{" and ".join(missing)}: give {"it" if len(missing) == 1 else "them"}, or --project NAME')


def make_proposals(*imdbs: str) -> None:
    """Selective search's proposals for these data sets, where they are not there yet; none for nets with an RPN."""
    import make_proposals as tool
    from detection_data.factory import get_imdb
    from fast_rcnn.config import cfg

    method = cfg.TRAIN.PROPOSAL_METHOD
    if cfg.TRAIN.HAS_RPN or method == 'gt':
        return
    missing = [name for name in imdbs if not os.path.isfile(get_imdb(name).proposals_path(method))]
    for name in missing:
        print(f'No proposals for {name} yet: making them')
        if tool.main(['--imdb', name, '--method', method, '--resize_to', 'auto']):
            raise KeyboardInterrupt('interrupted while proposals were made; give the same command to go on')


def model_to_test(project: Any, method: str, run: str | None = None) -> str:
    """The project's best or newest model that a method trained, by cfg's output folder; prints which it is.

    run: what --run says.
    """
    from detection_data.factory import get_imdb
    from fast_rcnn.config import output_dir_of
    from fast_rcnn.model_card import read_card

    path = project.model_to_test(output_dir_of(get_imdb(project.imdb('train'))), method, run)
    card = read_card(path)
    best = card.validation if card is not None else {}
    why = f', the best on {best.get("imdb")}, after iteration {best.get("iteration")}' if best else ''
    print(f'The model is {os.path.relpath(path)}{why} (--net takes another)')
    return path


def pictures_of(project: Any) -> str:
    """Where pictures of the project's detections go, by cfg's output folder."""
    from detection_data.factory import get_imdb
    from fast_rcnn.config import output_dir_of

    return os.path.relpath(os.path.join(os.path.dirname(output_dir_of(get_imdb(project.imdb('train')))), 'pictures'))
