"""The native layer types, one file a family. Importing this package registers them all.

It is also pycaffe's `from caffe import layers as L`: L.Convolution(bottom, ...) specifies a layer for a
NetSpec.
"""

import importlib
import pkgutil

from caffe.layer import layer_type_list
from caffe.net_spec import layers as _functions

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f'{__name__}.{_module.name}')


def __getattr__(name: str):
    return getattr(_functions, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *layer_type_list()])
