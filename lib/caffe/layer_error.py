"""The error that layers, fillers and parameters raise for a prototxt or a bottom that they cannot accept."""


class LayerError(ValueError):
    """A layer cannot be made or run as the prototxt says; the net adds file, line and name of the layer."""


def is_anonymous(error: Exception) -> bool:
    """Whether NumPy, torch or Python raised this for numbers that are too large, and its message names no place.

    All other errors say what they are about, a file or a GPU's memory, and callers may want to catch them.
    """
    if isinstance(error, MemoryError | OverflowError) or type(error) in (RuntimeError, ValueError):
        return True
    return type(error) is OSError and error.filename is None


def hint_of_memory(error: Exception) -> str:
    """What to add to an error that names no cause and comes when memory has run out: oneDNN says no more than this."""
    return ': too little memory?' if 'could not create a primitive' in str(error) else ''
