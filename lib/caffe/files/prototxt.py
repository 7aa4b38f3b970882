"""Reading prototxts: nets and solvers in protobuf's text form, with errors that say where and what.

    net, source = read_net('train.prototxt')
    solver = read_solver('solver.prototxt')

Both come upgraded to today's form (upgrade.py), whatever their age.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from caffe import forks
from caffe.files.upgrade import V1_TYPES, UpgradeError, is_v0_padding, upgrade_net, upgrade_solver
from caffe.proto import caffe_pb2

# The longest published prototxts have about 1 MB; beyond this, somebody has given another kind of file.
MAX_BYTES = 8 * 2**20


class PrototxtError(ValueError):
    """A prototxt that cannot be read: `file`, `line` and `column` (from 1; None if not known), `reason`."""

    def __init__(self, file: str, reason: str, line: int | None = None, column: int | None = None):
        self.file, self.line, self.column, self.reason = file, line, column, reason
        place = ''.join(f':{number}' for number in (line, column) if number is not None)
        super().__init__(f'{file}{place}: {reason}')


@dataclass
class NetSource:
    """Where the layers of an upgraded net stand in its file, for messages, and what was old about it.

    path: the file, or what the net is otherwise known by. lines: the line of each layer, from 1; empty if not
    known. notes: one sentence for each deprecated thing, to be logged.
    """

    path: str
    lines: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def where(self, index: int) -> str:
        """The place of a layer: 'train.prototxt:45'."""
        return f'{self.path}:{self.lines[index]}' if index < len(self.lines) else self.path


def read_net(path: str | os.PathLike) -> tuple[Message, NetSource]:
    """Reads a net as a NetParameter with all layers in `layer`, and where they stand.

    Raises PrototxtError, and OSError (FileNotFoundError, ...) for a file that cannot be read.
    """
    path = os.fspath(path)
    text = _read_text(path)
    net = parse(text, caffe_pb2.NetParameter(), path)
    return upgraded(net, path, list(_top_level_fields(text)))


def upgraded(net: Message, path: str, fields: Sequence[tuple[str, int]] = ()) -> tuple[Message, NetSource]:
    """A NetParameter brought to today's form, with its source. For nets that stand inside a solver, say.

    path: what messages call it. fields: the (name, line) of each field at its top level, in order, if it has
    a file. Raises PrototxtError if the net cannot be upgraded.
    """
    try:
        new, notes = upgrade_net(net)
    except UpgradeError as error:
        raise PrototxtError(path, str(error)) from None
    lines = [line for name, line in fields if name in ('layer', 'layers')]
    # The upgrade has taken padding layers out, and put an Input layer at the front for the `input` fields.
    if net.layers:
        lines = [line for line, layer in zip(lines, net.layers, strict=False) if not is_v0_padding(layer)]
    if lines and len(new.layer) > len(lines):
        lines.insert(0, next(line for name, line in fields if name == 'input'))
    return new, NetSource(path, lines, notes)


def read_solver(path: str | os.PathLike, notes: list[str] | None = None) -> Message:
    """Reads a solver as a SolverParameter.

    Its paths stay as written, relative to the working directory as in Caffe. Without a snapshot_prefix it
    gets the solver's own path less the extension, and one that is a folder gets the solver's name in that
    folder (UpgradeSnapshotPrefixProperty). notes: a list to which one sentence is added for each deprecated
    thing. Raises PrototxtError, and OSError for a file that cannot be read.
    """
    path = os.fspath(path)
    solver = parse(_read_text(path), caffe_pb2.SolverParameter(), path)
    try:
        solver, new_notes = upgrade_solver(solver)
    except UpgradeError as error:
        raise PrototxtError(path, str(error)) from None
    if notes is not None:
        notes += new_notes
    if not solver.HasField('snapshot_prefix'):
        solver.snapshot_prefix = str(Path(path).with_suffix(''))
    elif os.path.isdir(solver.snapshot_prefix):
        solver.snapshot_prefix = str(Path(solver.snapshot_prefix) / Path(path).stem)
    return solver


def parse(text: str, message: Message, filename: str) -> Message:
    """Reads text into a message and returns it. filename: what errors call the text. Raises PrototxtError."""
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        raise PrototxtError(filename, _reason(str(error), text, line, column, message), line, column) from None
    missing = message.FindInitializationErrors()
    if missing:
        layer = re.match(r'layer\[(\d+)\]', missing[0])
        line = layer_lines(text)[int(layer[1])] if layer else None
        raise PrototxtError(filename, f'missing required field: {missing[0]}', line)
    # Bytes that are not UTF-8 (see _read_text) may stand in a comment; in a name they would change it.
    for kind, line, token in _tokens(text) if '\ufffd' in text else ():
        if kind != 'comment' and '\ufffd' in token:
            raise PrototxtError(filename, 'not UTF-8 text; save the file as UTF-8', line)
    return message


def layer_lines(text: str) -> list[int]:
    """The line, from 1, of each `layer {` or `layers {` at the top level of a net, in order."""
    return [line for name, line in _top_level_fields(text) if name in ('layer', 'layers')]


# ---- The text


def _read_text(path: str) -> str:
    try:
        with open(path, 'rb') as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        message = f'no such prototxt (relative paths start at {os.getcwd()})'
        raise FileNotFoundError(errno.ENOENT, message, path) from None
    except IsADirectoryError:
        raise IsADirectoryError(errno.EISDIR, 'a folder, where a prototxt is expected', path) from None
    if len(data) > MAX_BYTES:
        raise PrototxtError(path, f'longer than {MAX_BYTES} bytes: not a prototxt. Weights have the .caffemodel ending')
    if data.startswith((b'\xff\xfe', b'\xfe\xff')):
        raise PrototxtError(path, 'UTF-16 text; save the file as UTF-8')
    if b'\0' in data:
        raise PrototxtError(path, 'a binary file, where a prototxt is expected. Weights have the .caffemodel ending')
    return data.removeprefix(b'\xef\xbb\xbf').decode('utf-8', errors='replace')


# A closing quote may be missing, so that no string is ever tried twice: the time stays linear in any text.
_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
    |   (?P<string>"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?)
    |   (?P<name>[A-Za-z_]\w*)
    |   (?P<number>\d[\w.]*)
    |   (?P<open>[{<])
    |   (?P<close>[}>])
    |   (?P<space>\s+)
    |   (?P<other>.)""",
    re.VERBOSE,
)


def _tokens(text: str) -> Iterator[tuple[str, int, str]]:
    """(kind, line, text) of each token, spaces left out."""
    line = 1
    for match in _TOKEN.finditer(text):
        if match.lastgroup == 'space':
            line += match[0].count('\n')
        else:
            yield match.lastgroup or 'other', line, match[0]


def _top_level_fields(text: str) -> Iterator[tuple[str, int]]:
    """(name, line) of each field at the top level of a text that has been parsed, in order."""
    depth, name = 0, ''
    start: int | None = None
    for kind, line, token in _tokens(text):
        if depth == 0 and kind == 'name':
            name, start = token, line
        elif depth == 0 and kind == 'string':  # input: "data"
            yield name, start or line
        elif kind == 'open':
            if depth == 0:
                yield name, start or line
            depth += 1
        elif kind == 'close':
            depth -= 1
            start = None  # the next one of a list, layer: [{ ... }, { ... }], starts with its brace


# ---- The reason


def _reason(error: str, text: str, line: int | None, column: int | None, message: Message) -> str:
    """protobuf's words without the place and the quoted line, and with the nearest name that exists."""
    reason = re.sub(r'^\d+:\d+ : ', '', error)
    lines = text.split('\n')
    for quoted in (lines[line - 1] if line and line <= len(lines) else '', ''):
        reason = reason.removeprefix(f"'{quoted}': ")
    pool = message.DESCRIPTOR.file.pool
    if match := re.search(r'Message type "([\w.]+)" has no field named "(\w+)"', reason):
        descriptor = pool.FindMessageTypeByName(match[1])
        if match[2] in ('layer', 'layers'):  # they stand in a net alone
            return f'{descriptor.name} has no field "{match[2]}": is the brace before it not closed?'
        slip = _slip(match[2], descriptor.name, lines, line, column)
        if slip:
            return f'{descriptor.name} has no field "{match[2]}": {slip}'
        if _is_something_else(text, message.DESCRIPTOR):
            return f'this is no prototxt, hardly a word of it is a field; {descriptor.name} has no field "{match[2]}"'
        said = f'{descriptor.name} has no field "{match[2]}"{_hint(match[2], descriptor)}'
        others = _other_unknowns(text, message.DESCRIPTOR)
        return said + (others.removeprefix('.') if said.endswith('?') else others)
    if match := re.search(r'Enum type "([\w.]+)" has no value named ("?)(\w+)"?', reason):
        descriptor = pool.FindEnumTypeByName(match[1])
        owner = descriptor.containing_type
        name = f'{owner.name}.{descriptor.name}' if owner else descriptor.name
        quotes = ' (a name without quotes)' if match[2] else ''
        return f'{name}{quotes} has no value "{match[3]}"{_nearest(match[3], descriptor.values_by_name.keys())}'
    if match := re.search(r"Expected string but found: '(\w+)'", reason):
        number = caffe_pb2.V1LayerParameter.LayerType.DESCRIPTOR.values_by_name.get(match[1])
        string = V1_TYPES[number.number] if number else match[1]
        return f'a string stands in quotes: "{string}", not {match[1]}'
    if re.match(r'Value out of range|Couldn\'t parse (integer|float)|Expected "true" or "false"', reason):
        return _bad_value(reason, lines, line, column, message)
    if re.match(r'Expected identifier or number, got [}>]', reason):
        return f'{reason.rstrip(".")}: a closing brace too many, here or before?'
    if reason == 'Expected "}".':
        return 'Expected "}": a brace that is opened is never closed'
    return reason if len(reason) <= 200 else f'{reason[:200]} ...'


def _slip(field: str, owner: str, lines: list[str], line: int | None, column: int | None) -> str:
    """The quote or brace that is likely wrong where a field is unknown only for it; '' where none is."""
    before = lines[line - 1][: (column or 1) - 1] if line and line <= len(lines) else ''
    if before.endswith(('"', "'")):  # "conv1 type: "Convolution": what is outside and what inside is swapped
        return 'it follows a string at once: is a quote missing before it in this line?'
    if owner == 'NetParameter' and field in caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name:
        return 'it is a field of a layer: is there a closing brace too many before it?'
    return ''


def _bad_value(reason: str, lines: list[str], line: int | None, column: int | None, message: Message) -> str:
    """protobuf's words with the name of the field, and with what it takes where fields of that name agree."""
    before = '\n'.join([*lines[max(0, line - 20) : line - 1], lines[line - 1][: (column or 1) - 1]]) if line else ''
    field = re.search(r'(\w+)\s*:\s*(?:\[[^\]:{}]*)?$', before)
    if not field:
        return reason
    messages = message.DESCRIPTOR.file.message_types_by_name.values()
    types = {m.fields_by_name[field[1]].type for m in messages if field[1] in m.fields_by_name}
    wanted = {_TAKES.get(kind) for kind in types}
    takes = f'; it takes {wanted.pop()}' if len(wanted) == 1 and None not in wanted else ''
    return f'{field[1]}: {reason.rstrip(".")}{takes}'


_TAKES = {
    FieldDescriptor.TYPE_UINT32: f'a whole number from 0 to {2**32 - 1}',
    FieldDescriptor.TYPE_INT32: f'a whole number from {-(2**31)} to {2**31 - 1}',
    FieldDescriptor.TYPE_FLOAT: 'a number',
}


_THERE_ARE = '; there are '


def _hint(field: str, owner: Descriptor) -> str:
    known = owner.fields_by_name.keys()  # not the table itself: protobuf 4.21.0 to 4.21.2 run over its values
    return forks.field_hint(field, known) or _nearest(field, known)


def _is_something_else(text: str, descriptor: Descriptor) -> bool:
    """Whether a text with an unknown field is no prototxt at all: nearly all its many words are no fields."""
    messages = descriptor.file.message_types_by_name.values()
    known = set[str]().union(*(message.fields_by_name.keys() for message in messages))
    words: set[str] = set()
    depth = 0
    for kind, _, token in _tokens(text):
        if kind == 'name' and depth == 0:
            words.add(token)
        depth = max(0, depth + (kind == 'open') - (kind == 'close'))
    return len(words - known) >= 10 and len(words - known) > 0.8 * len(words)


def _other_unknowns(text: str, descriptor: Descriptor) -> str:
    """What to add to a message about an unknown field: all fields and layer types that are, if there are more."""
    from caffe.layer import layer_type_list  # here: layers read files

    unknown: dict[str, list[int]] = {}
    fields, types = _names(text, descriptor)
    for owner, name, line in fields:
        hint = _hint(name, owner)  # the names that there are, if it lists them, have been said
        what = f'field "{name}" of {owner.name}{"" if hint.startswith(_THERE_ARE) else hint}'
        unknown.setdefault(what, []).append(line)
    for name, line in types:
        if name not in layer_type_list():
            unknown.setdefault(f'layer type "{name}"{forks.type_hint(name, layer_type_list())}', []).append(line)
    if sum(map(len, unknown.values())) < 2:
        return ''
    return f'. All that is unknown in this file:{forks.listed(unknown)}' + (f'\n{forks.STAND_IN}' if types else '')


def _names(text: str, top: Descriptor) -> tuple[list[tuple[Descriptor, str, int]], list[tuple[str, int]]]:
    """The fields of a text that their message lacks (message, name, line), and the types of its layers (name, line).

    A message that stands in an unknown field is passed over.
    """
    fields, types = [], []
    around: list[tuple[Descriptor | None, str, bool]] = []  # the state of the messages around this one
    owner, name, in_list, is_value = top, '', False, False
    for kind, line, token in _tokens(text):
        if kind == 'name' and not (is_value or in_list):
            name = token
            if owner is not None and name not in owner.fields_by_name:
                fields.append((owner, name, line))
        elif kind == 'open':
            around.append((owner, name, in_list))
            field = owner.fields_by_name.get(name) if owner is not None else None
            owner, in_list = field.message_type if field is not None else None, False
        elif kind == 'close' and around:
            owner, name, in_list = around.pop()
        elif kind == 'string' and name == 'type' and owner is not None and owner.name == 'LayerParameter':
            types.append((token[1:-1], line))
        elif token in '[]':
            in_list = token == '['
        # A word after a colon is a value: MAX, true
        is_value = token == ':' or (is_value and kind not in ('name', 'string', 'number', 'open', 'close'))
    return fields, types


def _nearest(name: str, names: Sequence[str]) -> str:
    near = forks.nearest(name, names)
    if near:
        return f'; did you mean "{near}"?'
    return f'{_THERE_ARE}{", ".join(names)}' if len(names) <= 12 else ''
