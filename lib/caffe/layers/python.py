"""Python layers: `type: "Python"` names a module and a class of the user's (python_layer.hpp).

A prototxt that names a Python layer runs that module: load prototxts from people you trust, as you would their code.
"""

from __future__ import annotations

import importlib

from caffe.layer import Layer, LayerError


def python_layer_class(layer_param) -> type:
    """The class that `python_param` names. Raises LayerError where the module or the class does not exist."""
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
    cls = getattr(module, param.layer, None)
    if cls is None:
        raise LayerError(f'module {param.module!r} ({getattr(module, "__file__", "built in")}) has no {param.layer!r}')
    if not (isinstance(cls, type) and issubclass(cls, Layer)):
        raise LayerError(f'{param.module}.{param.layer} is no layer: it has to be a class derived from caffe.Layer')
    return cls
