"""Which images make up mini-batch number n: a pure function of (seed, images, n).

Nothing is remembered from one mini-batch to the next. So a run goes on from any iteration without replaying
what came before it, and any number of loader processes yields the same sequence.
"""

import numpy as np

# Every use of the seed has its own stream of random numbers
_EPOCHS, _SAMPLING, _AUGMENTING = 1, 2, 8


def sampling_rng(seed: int, n: int) -> np.random.Generator:
    """The generator for the choices inside mini-batch `n` (scales, RoIs)."""
    return np.random.default_rng([seed, _SAMPLING, n])


def augmenting_rng(seed: int, n: int, image: int) -> np.random.Generator:
    """The generator for how mini-batch `n` changes image `image` of the training set (see `augmentation`)."""
    return np.random.default_rng([seed, _AUGMENTING, n, image])


class BatchOrder:
    """The order of images over all epochs.

    `widths`, `heights` (N,) of the images, in pixels. Every epoch shows each image once, in an order of its
    own. With `aspect_grouping`, mini-batches hold images that are all wide or all tall, but for one that
    takes what is left over. If `ims_per_batch` does not divide N, the epoch's last mini-batch is filled up
    with images from the epoch's start.
    """

    def __init__(self, seed: int, widths, heights, ims_per_batch: int, aspect_grouping: bool):
        self._seed = seed
        self._wide = np.asarray(widths) >= np.asarray(heights)
        self._size = ims_per_batch
        self._grouping = aspect_grouping and ims_per_batch > 1
        self._epoch: int | None = None
        if len(self._wide) == 0:
            raise ValueError('the training set has no images')

    @property
    def batches_per_epoch(self) -> int:
        return -(-len(self._wide) // self._size)

    def __call__(self, n: int) -> np.ndarray:
        """The images of mini-batch `n` (0, 1, ...): (ims_per_batch,) indices."""
        epoch, batch = divmod(n, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[batch]

    def _shuffled(self, epoch: int) -> np.ndarray:
        """(batches_per_epoch, ims_per_batch) indices."""
        rng = np.random.default_rng([self._seed, _EPOCHS, epoch])
        order = rng.permutation(len(self._wide))
        if not self._grouping:
            return np.resize(order, (self.batches_per_epoch, self._size))
        wide, tall = order[self._wide[order]], order[~self._wide[order]]
        full_wide, full_tall = (len(part) // self._size * self._size for part in (wide, tall))
        full = np.concatenate((wide[:full_wide], tall[:full_tall])).reshape(-1, self._size)
        left_over = np.concatenate((wide[full_wide:], tall[full_tall:]))
        order = np.concatenate((rng.permutation(full, axis=0).ravel(), left_over))
        return np.resize(order, (self.batches_per_epoch, self._size))
