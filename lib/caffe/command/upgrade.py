"""Brings an old net or solver, text or binary, to today's form (upgrade_net_proto_text and its like)."""

from __future__ import annotations

import argparse

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

import whole_file
from caffe.files.prototxt import PrototxtError, parse
from caffe.files.upgrade import UpgradeError, upgrade_net, upgrade_solver
from caffe.proto import caffe_pb2


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument('old', help='a net or solver prototxt, or a .caffemodel')
    parser.add_argument('new', help='the file to write, in the same form, text or binary')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    with open(args.old, 'rb') as file:
        data = file.read()
    message, is_text = read(data, args.old)
    try:
        upgrade = upgrade_solver if isinstance(message, caffe_pb2.SolverParameter) else upgrade_net
        new, notes = upgrade(message)
    except UpgradeError as error:
        raise PrototxtError(args.old, str(error)) from None
    text = text_format.MessageToString(new).encode() if is_text else new.SerializeToString()
    whole_file.write(args.new, text)
    for note in notes:
        print(f'upgraded: {note}')
    kind = 'solver' if isinstance(message, caffe_pb2.SolverParameter) else 'net'
    print(f'{args.new}: the {kind}{"" if notes else ", which was in the present format already"}')


def read(data: bytes, path: str) -> tuple[Message, bool]:
    """The net or solver in a file's bytes, and whether it is text. Raises PrototxtError."""
    if b'\0' in data:
        try:
            net = caffe_pb2.NetParameter.FromString(data)
        except DecodeError as error:
            raise PrototxtError(path, f'neither a prototxt nor a binary net: {error}') from None
        if not (net.layer or net.layers):
            raise PrototxtError(path, 'a binary file, but no net with layers')
        return net, False
    text = data.decode('utf-8', errors='replace')
    errors = []
    for kind in (caffe_pb2.NetParameter, caffe_pb2.SolverParameter):
        try:
            return parse(text, kind(), path), True
        except PrototxtError as error:
            errors.append(error)
    # Of the two kinds of file, it is taken for the one of which more could be read.
    raise max(errors, key=lambda error: (error.line or 0, error.column or 0))
