"""What a layer, a filler or a param raises for what a prototxt or a bottom cannot be."""


class LayerError(ValueError):
    """A layer cannot be made or run as the prototxt says; the net adds file, line and name of the layer."""
