"""Random choices of the RPN's layers: pure functions of the seed, the number of the pass and the image.

Nothing is remembered from one pass to the next, so a run goes on from any iteration as if it had never stopped.
"""

import numpy as np

# Each use of the seed has its own stream of random numbers; roi_data_layer and fast_rcnn.train use 1 to 5, and 8
ANCHORS, ROIS = 6, 7


def sampling_rng(seed: int, stream: int, position: int, image: int) -> np.random.Generator:
    """The generator for the choices (`ANCHORS` or `ROIS`) in image `image` of forward pass number `position`."""
    return np.random.default_rng([seed, stream, position, image])


def sample(indices: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` of `indices` without repetition, in their order; all of them, and nothing drawn, if there are no more."""
    if len(indices) <= size:
        return indices
    return np.sort(rng.choice(indices, size=max(size, 0), replace=False))
