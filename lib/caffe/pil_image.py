"""`PIL.Image` for programs that import PIL and not its submodule, which pycaffe loaded along with scikit-image."""

from __future__ import annotations

import importlib


def offer() -> None:
    """Lets `PIL.Image` load at its first use, which `import PIL` alone does not. Without Pillow there is none."""
    try:
        PIL = importlib.import_module('PIL')
    except ImportError:
        return

    def load(name: str):
        if name != 'Image':
            raise AttributeError(f"module 'PIL' has no attribute {name!r}")
        return importlib.import_module('PIL.Image')

    if '__getattr__' not in vars(PIL):
        vars(PIL)['__getattr__'] = load
