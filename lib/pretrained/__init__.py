"""Weights that other programs trained on ImageNet, made into a .caffemodel for the nets here."""


class WeightsError(ValueError):
    """A file of weights that cannot be read, or is not of the net that it is wanted for."""
