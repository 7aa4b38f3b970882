"""The file of weights that a training starts from: whether it is there, and where such a file comes from."""

from __future__ import annotations

import os

FETCHED = ('CaffeNet', 'VGG_CNN_M_1024', 'VGG16')  # what data/scripts/fetch_imagenet_models.sh brings


def check_is_there(weights: str | None) -> None:
    """Raises FileNotFoundError, which says how to get the file, unless it is there, None or 'none'."""
    if weights in (None, 'none') or os.path.isfile(weights):
        return
    name = os.path.basename(weights)
    if name in [f'{net}.v2.caffemodel' for net in FETCHED]:
        how = 'data/scripts/fetch_imagenet_models.sh fetches them'
        if name == 'VGG16.v2.caffemodel':
            how += ", tools/import_weights.py makes them of torchvision's, timm's and Keras's files"
    elif name == 'ResNet-50-model.caffemodel':
        how = (
            'its authors publish them (github.com/KaimingHe/deep-residual-networks), or tools/import_weights.py makes '
            "them of Keras's file: docs/backbones.md"
        )
    elif name.endswith('-folded.caffemodel'):
        how = "tools/import_weights.py makes them of torchvision's or timm's file: docs/backbones.md"
    else:
        how = (
            f'data/scripts/fetch_imagenet_models.sh fetches those of {", ".join(FETCHED)}; '
            'docs/backbones.md says where others come from'
        )
    raise FileNotFoundError(f'the weights to start from, {weights}, do not exist; {how}')
