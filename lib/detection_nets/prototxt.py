"""Layers as they come to be, and the prototxt that they make, a layer a line."""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format
from google.protobuf.json_format import ParseDict

from caffe.proto import caffe_pb2

FROZEN = {'lr_mult': 0, 'decay_mult': 0}
WEIGHTS, BIAS = {'lr_mult': 1, 'decay_mult': 1}, {'lr_mult': 2, 'decay_mult': 0}


class Prototxt:
    """A net in the making. `training`: its layers with weights say how they learn."""

    def __init__(self, name: str, training: bool):
        self.training = training
        self._net = caffe_pb2.NetParameter(name=name)
        self._comments: dict[int, str] = {}

    def section(self, comment: str) -> None:
        """A comment in front of the next layer."""
        self._comments[len(self._net.layer)] = comment

    def add(
        self,
        name: str,
        kind: str,
        bottoms: str | list[str],
        tops: str | list[str] | None = None,
        params: list[dict] | None = None,
        read_only: bool = False,
        **options: Any,
    ) -> str:
        """Adds the layer `name` of type `kind`, and returns its first top, called like it unless `tops` says.

        `params` are its `param` messages, left out of a net to test with; `options` its other fields. A read-only layer
        says of each bottom that no gradient goes there. Raises google.protobuf.json_format.ParseError for a field that
        does not exist.
        """
        bottoms = [bottoms] if isinstance(bottoms, str) else bottoms
        tops = [name] if tops is None else [tops] if isinstance(tops, str) else tops
        fields = {'name': name, 'type': kind, 'bottom': bottoms, 'top': tops, **options}
        if params and self.training:
            fields['param'] = params
        if read_only:
            fields['propagate_down'] = [False] * len(bottoms)
        ParseDict(fields, self._net.layer.add())
        return tops[0] if tops else ''

    def input(self, name: str, shape: list[int]) -> str:
        """An input of a net to test with; returns its name."""
        return self.add(name, 'Input', [], input_param={'shape': [{'dim': shape}]})

    def text(self, comment: str) -> str:
        """The prototxt, below `comment`, one layer a line."""
        lines = [f'# {line}' for line in comment.splitlines()] + [f'name: "{self._net.name}"']
        for i, layer in enumerate(self._net.layer):
            if i in self._comments:
                lines += ['', f'# {self._comments[i]}']
            message = text_format.MessageToString(layer, as_one_line=True).strip()
            lines.append(f'layer {{ {message} }}'.replace("\\'", "'"))
        return '\n'.join(lines) + '\n'
