"""What a layer, a filler or a param raises for what a prototxt or a bottom cannot be."""


class LayerError(ValueError):
    """A layer cannot be made or run as the prototxt says; the net adds file, line and name of the layer."""


def is_anonymous(error: Exception) -> bool:
    """Whether this is what NumPy, torch and Python raise of numbers too large for them, without a word of where.

    All other errors know what they speak of, a file, say, or a GPU's memory, and callers may want to catch them.
    """
    if isinstance(error, MemoryError | OverflowError) or type(error) in (RuntimeError, ValueError):
        return True
    return type(error) is OSError and error.filename is None
