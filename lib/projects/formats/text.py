"""Text and JSON label files, read with one message where they are not what they should be."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from typing import Any

from projects.photographs import LabelError, walk


def files_of(root: str, *extensions: str) -> list[str]:
    """The files of these extensions below a folder, or the one file given."""
    paths = [root] if os.path.isfile(root) else walk(root)
    return [path for path in paths if path.lower().endswith(extensions)]


def read_text(path: str) -> str:
    """A text in UTF-8, with or without a byte order mark. Raises LabelError for anything else."""
    try:
        with open(path, encoding='utf-8-sig') as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise LabelError(f'{path}: not a text in UTF-8 ({error}): save it as UTF-8') from None
    except OSError as error:
        raise LabelError(f'{path}: cannot be read: {error.strerror}') from None


def read_json(path: str) -> Any:
    """What a JSON file holds. Raises LabelError for what is none."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, LabelError):
            raise
        raise LabelError(f'{path}: not a JSON file ({error})') from None


def peek_json(paths: list[str]) -> Iterator[tuple[str, dict]]:
    """(path, content) of those files that hold a JSON object."""
    for path in paths:
        try:
            content = read_json(path)
        except LabelError:
            continue
        if isinstance(content, dict):
            yield path, content


def number(value: object, where: str, what: str) -> float:
    """A finite number, given as one or as text. Raises LabelError with its place."""
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result) or isinstance(value, bool):
        raise LabelError(f'{where}: {what} is {value!r}; expected a number')
    return result
