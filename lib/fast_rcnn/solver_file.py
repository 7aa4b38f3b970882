"""A solver prototxt, and the text of the net that it names: read by protobuf, so that any Caffe may train by them."""

import difflib
import math
import os
import re

from google.protobuf import text_format

from caffe.proto import caffe_pb2

_LONGEST = 2**20  # bytes of a solver prototxt


def read_solver(path: str) -> caffe_pb2.SolverParameter:
    """The SolverParameter in a solver prototxt. Raises FileNotFoundError, or ValueError naming the file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no solver prototxt {path}')
    param = caffe_pb2.SolverParameter()
    with open(path, 'rb') as stream:
        data = stream.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise ValueError(f'{path}: longer than {_LONGEST} bytes: not a solver prototxt')
    if data.startswith((b'\xff\xfe', b'\xfe\xff')):
        raise ValueError(f'{path}: UTF-16 text; save the file as UTF-8')
    try:
        # Other than UTF-8 is in comments, where it does no harm
        text_format.Parse(data.removeprefix(b'\xef\xbb\xbf').decode('utf-8', errors='replace'), param)
    except text_format.ParseError as error:
        said = ''.join(letter if letter.isprintable() else '?' for letter in str(error)[:300])
        raise ValueError(f'{path}: not a solver prototxt: {said}{_field_meant(str(error))}') from None
    spoilt = [field.name for field, value in param.ListFields() if '\ufffd' in str(value)]
    if spoilt:
        raise ValueError(f'{path}: {", ".join(spoilt)} is not UTF-8 text; save the file as UTF-8')
    if not 0 <= param.base_lr < math.inf:  # Caffe takes it
        raise ValueError(
            f'{path}: base_lr is {param.base_lr:g}; expected a number above 0, such as 0.001: with one below 0, '
            'training makes the loss larger'
        )
    return param


def _field_meant(error: str) -> str:
    """What to add to protobuf's words about an unknown field of a solver: the field most like it."""
    unknown = re.search(r'has no field named "(\w+)"', error)
    near = (
        difflib.get_close_matches(unknown[1], caffe_pb2.SolverParameter.DESCRIPTOR.fields_by_name.keys(), 1)
        if unknown
        else []
    )
    return f' Did you mean "{near[0]}"?' if near else ''


def net_text(param: caffe_pb2.SolverParameter) -> str:
    """The text of the net that a solver trains; empty where the solver holds the net itself."""
    for field in ('net', 'train_net'):
        if param.HasField(field):
            with open(getattr(param, field), encoding='utf-8-sig', errors='replace') as file:
                return file.read()
    return ''
