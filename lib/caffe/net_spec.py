"""Nets written in Python: `n.conv1 = L.Convolution(n.data, num_output=8)` (pycaffe's net_spec.py).

A call of a layer function makes a Top: a future blob. A Top knows the function that computes it, and that knows
its inputs. `NetSpec` gives blobs their names; `to_proto` walks back from the blobs and writes one layer for
each function, inputs first. Nothing is computed here: the result is a NetParameter, to be saved as a
prototxt.

    from caffe import layers as L, params as P, NetSpec

    n = NetSpec()
    n.data, n.label = L.Data(ntop=2, batch_size=64, source='train_lmdb', backend=P.Data.LMDB)
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler=dict(type='xavier'))
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    ...
    open('train.prototxt', 'w').write(str(n.to_proto()))

A keyword is an option of the layer's own message (`num_output` of ConvolutionParameter), or a field of
LayerParameter (`loss_weight`, `include`, `param`, `transform_param`, ...). Those whose message has another
name than the layer want it by name: L.Deconvolution(x, convolution_param=dict(num_output=2, kernel_size=4)).
"""

from __future__ import annotations

import difflib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

import numpy as np
from google.protobuf.message import Message

from caffe.layer import LayerError, native_type
from caffe.proto import caffe_pb2


def param_name_dict() -> dict[str, str]:
    """Layer type -> name of its options without '_param': {'InnerProduct': 'inner_product', ...}."""
    fields = [f for f in caffe_pb2.LayerParameter.DESCRIPTOR.fields if f.name.endswith('_param')]
    return {f.message_type.name.removesuffix('Parameter'): f.name.removesuffix('_param') for f in fields}


def to_proto(*tops: Top | Function) -> Message:
    """A NetParameter with all layers that these tops need, blobs named by type: Convolution1, ReLU1, ..."""
    return _net([_function_of(top) for top in tops], {})


def assign_proto(proto: Message, name: str, value: object) -> None:
    """Sets a field of a message from Python: a dict for a message, a list for a repeated field.

    A value that is no list is taken as the one item of a repeated field. Raises AttributeError for a field
    that the message lacks, TypeError or ValueError for a value that the field does not take.
    """
    fields = proto.DESCRIPTOR.fields_by_name
    kind = proto.DESCRIPTOR.name
    if name not in fields:
        raise AttributeError(f'{kind} has no field {name!r}{_nearest(name, fields.keys())}')
    field = getattr(proto, name)
    try:
        if hasattr(field, 'extend'):
            for item in value if isinstance(value, list | tuple | np.ndarray) else [value]:
                if isinstance(item, dict):
                    _assign_all(field.add(), item)
                else:
                    field.append(item)
        elif isinstance(value, dict):
            _assign_all(field, value)
        elif isinstance(value, Message):
            field.CopyFrom(value)
        else:
            setattr(proto, name, value)
    except (TypeError, ValueError) as error:
        if str(error).startswith('in field '):
            raise
        kind_of_error = TypeError if isinstance(error, TypeError) else ValueError
        raise kind_of_error(f'in field {kind}.{name}: cannot be {value!r} ({error})') from None


def _assign_all(proto: Message, values: dict) -> None:
    for name, value in values.items():
        assign_proto(proto, name, value)


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f'; did you mean {near[0]!r}?' if near else ''


class Top:
    """One output blob of a layer: the n-th top of `fn`."""

    def __init__(self, fn: Function, n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> Message:
        """A NetParameter with all layers that this blob needs."""
        return to_proto(self)


class Function:
    """A layer-to-be: its type, the Tops that it reads, its options. `tops` are its outputs.

    params: options as keywords; two are not Caffe's: ntop (how many tops, default 1) and in_place (the tops
    are the bottoms). Raises TypeError for an input that is no Top.
    """

    def __init__(self, type_name: str, inputs: tuple[Top, ...], params: dict):
        for i, given in enumerate(inputs):
            if not isinstance(given, Top):
                hint = '; take one of its tops, or give them one by one' if isinstance(given, tuple | list) else ''
                raise TypeError(f'{type_name} input {i} is not a Top (type is {type(given)}){hint}')
        self.type_name = type_name
        self.inputs = inputs
        self.params = dict(params)
        self.ntop = self.params.pop('ntop', 1)
        self.in_place = self.params.pop('in_place', False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def layer(self, name: str, bottoms: list[str], tops: list[str]) -> Message:
        """The LayerParameter. Raises AttributeError for an option that neither it nor its own message has."""
        layer = caffe_pb2.LayerParameter(type=self.type_name, bottom=bottoms, top=tops, name=name)
        own = _param_names.get(self.type_name, '') + '_param'
        for key, value in self.params.items():
            target = layer
            whole_message = key.endswith('param') and key in layer.DESCRIPTOR.fields_by_name
            if not whole_message and own != '_param':
                options = getattr(layer, own)
                if key in options.DESCRIPTOR.fields_by_name:
                    target = options
            if target is layer and key not in layer.DESCRIPTOR.fields_by_name:
                raise AttributeError(f'layer {name!r}: {self._no_option(key, own)}')
            try:
                assign_proto(target, key, value)
            except (AttributeError, TypeError, ValueError) as error:
                raise type(error)(f'layer {name!r} ({self.type_name}): {error}') from None
        return layer

    def _no_option(self, key: str, own: str) -> str:
        """What to say of an option that is neither the layer's own nor a field of LayerParameter."""
        fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
        if own in fields:
            options = fields[own].message_type.fields_by_name.keys()
            return f'{self.type_name} has no option {key!r}{_nearest(key, options)}'
        try:
            home = native_type(self.type_name).param_field
        except LayerError:
            home = None
        hint = f': write {home}=dict({key}=...)' if home else ''
        return f'{self.type_name} has no message of its own name for the option {key!r}{hint}'


def _function_of(top: Top | Function) -> Function:
    return top if isinstance(top, Function) else top.fn


def _net(functions: list[Function], names: dict) -> Message:
    """The net of these functions and all that they read, inputs first; names: Top or Function -> name."""
    names = dict(names)
    counts: Counter[str] = Counter()

    def name_of(thing: Top | Function, kind: str) -> str:
        if thing not in names:
            counts[kind] += 1
            names[thing] = f'{kind}{counts[kind]}'
        return names[thing]

    layers: OrderedDict[Function, Message] = OrderedDict()
    for wanted in functions:
        waiting = [wanted]  # a stack: nets may be deeper than Python's recursion
        while waiting:
            fn = waiting[-1]
            missing = [top.fn for top in fn.inputs if top.fn not in layers]
            if missing:
                waiting += reversed(missing)
                continue
            waiting.pop()
            if fn in layers:
                continue
            bottoms = [layers[top.fn].top[top.n] for top in fn.inputs]
            tops = bottoms if fn.in_place else [name_of(top, fn.type_name) for top in fn.tops]
            if fn not in names and fn.tops:
                names[fn] = name_of(fn.tops[0], fn.type_name)
            layers[fn] = fn.layer(name_of(fn, fn.type_name), bottoms, tops)
    return caffe_pb2.NetParameter(layer=layers.values())


class NetSpec:
    """A net under construction: blobs as attributes, `n.conv1 = ...`, or as items, `n['conv1'] = ...`.

    `n.to_proto()` is the net of all blobs that were named, and of those that they need. A layer has the name
    of its first top; a layer without tops (ntop=0) that of its attribute.
    """

    tops: OrderedDict[str, Top | Function]

    def __init__(self) -> None:
        super().__setattr__('tops', OrderedDict())

    def __setitem__(self, name: str, value: Top | Function) -> None:
        if not isinstance(value, Top | Function):
            hint = ''
            if isinstance(value, tuple | list):
                hint = f' of {len(value)} tops: give each a name, n.a, n.b = L.Data(ntop=2, ...)'
            raise TypeError(
                f'n.{name} has to be a Top, as L.Convolution(...) gives; it is a {type(value).__name__}{hint}'
            )
        self.tops[name] = value

    def __getitem__(self, name: str) -> Top | Function:
        return self.tops[name]

    def __delitem__(self, name: str) -> None:
        del self.tops[name]

    __setattr__ = __setitem__

    def __getattr__(self, name: str) -> Top | Function:
        if name == 'tops':  # not set yet: a copy or an unpickling under way
            raise AttributeError(name)
        if name not in self.tops:
            raise AttributeError(f'this NetSpec has no blob {name!r}{_nearest(name, self.tops)}')
        return self.tops[name]

    def __delattr__(self, name: str) -> None:
        self.__getattr__(name)
        del self.tops[name]

    def keys(self) -> list[str]:
        """The names of the blobs; so, and the next two, SSD's Caffe, whose scripts write nets by them."""
        return list(self.tops)

    def vals(self) -> list[Top | Function]:
        """The blobs, in the order of `keys`."""
        return list(self.tops.values())

    def update(self, name: str, params: dict) -> None:
        """Gives the layer that makes a blob other or more options."""
        _function_of(self[name]).params.update(params)

    def to_proto(self) -> Message:
        """The NetParameter of all named blobs."""
        names = {top: name for name, top in self.tops.items()}
        return _net([_function_of(top) for top in self.tops.values()], names)


def layer_function(type_name: str) -> Callable[..., Top | tuple[Top, ...] | Function]:
    """The function that specifies a layer of this type: inputs as arguments, options as keywords.

    It returns a Top; with ntop=2 or more a tuple of Tops; with ntop=0 the Function itself.
    """

    def specify(*inputs: Top, **params):
        fn = Function(type_name, inputs, params)
        if fn.ntop == 0:
            return fn
        return fn.tops[0] if fn.ntop == 1 else fn.tops

    specify.__name__ = specify.__qualname__ = type_name
    specify.__doc__ = f'Specifies a {type_name} layer: inputs as arguments, options as keywords (caffe.net_spec).'
    return specify


class Layers:
    """`layers.Convolution` is the function that specifies a Convolution layer; so for any capital name."""

    def __getattr__(self, name: str):
        if not name[:1].isupper():
            raise AttributeError(f'no layer type {name!r}: types begin with a capital letter')
        return layer_function(name)


class Parameters:
    """`params.Pooling.MAX` is PoolingParameter's constant MAX; so for each enum value of caffe.proto."""

    def __getattr__(self, name: str):
        if name.startswith('_'):
            raise AttributeError(name)
        messages = [n.removesuffix('Parameter') for n in caffe_pb2.DESCRIPTOR.message_types_by_name.keys()]  # noqa: SIM118
        if name not in messages:
            raise AttributeError(f'caffe.proto has no {name}Parameter{_nearest(name, messages)}')
        return _Constants(getattr(caffe_pb2, name + 'Parameter'))


class _Constants:
    def __init__(self, message: type[Message]):
        self._message = message

    def __getattr__(self, name: str) -> int:
        values = self._message.DESCRIPTOR.enum_values_by_name
        if name not in values:
            raise AttributeError(
                f'{self._message.DESCRIPTOR.name} has no constant {name!r}; it has {", ".join(values.keys())}'
            )
        return values[name].number

    def __dir__(self):
        return list(self._message.DESCRIPTOR.enum_values_by_name.keys())


_param_names = param_name_dict()
layers = Layers()
params = Parameters()
