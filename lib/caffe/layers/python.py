"""Python layers: `type: "Python"` names a module and a class of the user's (python_layer.hpp).

A prototxt that names a Python layer runs that module: load prototxts from people you trust, as you would their code.
"""

from __future__ import annotations

import difflib
import importlib

from google.protobuf.message import Message

from caffe.layer import Layer, LayerError


def python_layer_class(layer_param: Message) -> type[Layer]:
    """The class that `python_param` names. Raises LayerError where there is none, or it lacks what a layer needs."""
    param = layer_param.python_param
    if not param.module or not param.layer:
        raise LayerError('a Python layer needs python_param { module: "..." layer: "..." }')
    try:
        module = importlib.import_module(param.module)
    except ModuleNotFoundError as error:
        if error.name is None or not (param.module + '.').startswith(error.name + '.'):
            raise  # the module was found; something that it imports was not
        raise LayerError(
            f'python_param names module {param.module!r}, which Python does not find; '
            'put its folder on PYTHONPATH (or sys.path)'
        ) from error
    except SyntaxError as error:
        raise LayerError(
            f'the module {param.module!r} is no Python: {error.filename}:{error.lineno}: {error.msg}'
        ) from error
    cls = getattr(module, param.layer, None)
    if cls is None:
        raise LayerError(f'module {param.module!r} ({getattr(module, "__file__", "built in")}) has no {param.layer!r}')
    if not (isinstance(cls, type) and issubclass(cls, Layer)):
        raise LayerError(f'{param.module}.{param.layer} is no layer: it has to be a class derived from caffe.Layer')
    for method in ('reshape', 'forward', 'setup', 'backward'):
        needed = method in ('reshape', 'forward')
        if not _has(cls, method) and (needed or _misspelt(cls, method)):
            raise LayerError(_lacks(cls, method) + (', which every Python layer needs' if needed else ''))
    return cls


def check_backward(layer: Layer, bottom_need_backward: list[bool]) -> None:
    """Raises LayerError where a gradient is asked of a Python layer without backward: it would silently be zero."""
    wanted = any(bottom_need_backward) or any(layer.param_propagate_down)
    if layer.type == 'Python' and layer.needs_backward and wanted and not _has(type(layer), 'backward'):
        what = ', '.join(
            [f"bottom '{n}'" for n, need in zip(layer.layer_param.bottom, bottom_need_backward, strict=True) if need]
            + [f'parameter {i}' for i, need in enumerate(layer.param_propagate_down) if need]
        )
        raise LayerError(
            f'{_lacks(type(layer), "backward")}, and a gradient is asked for ({what}). '
            'Write one, or say propagate_down: false'
        )


def _has(cls: type, method: str) -> bool:
    return getattr(cls, method, None) is not getattr(Layer, method)


def _misspelt(cls: type, method: str) -> str | None:
    """The class's own function whose name is nearly that of the method."""
    own = {
        name.lower().replace('_', ''): name
        for base in cls.__mro__[: cls.__mro__.index(Layer)]
        for name, value in vars(base).items()
        if callable(value) and not hasattr(Layer, name)
    }
    near = difflib.get_close_matches(method, own, n=1, cutoff=0.8)
    return own[near[0]] if near else None


def _lacks(cls: type, method: str) -> str:
    near = _misspelt(cls, method)
    return f'{cls.__module__}.{cls.__name__} has no method {method!r}' + (
        f' (is {near!r} meant to be it?)' if near else ''
    )
