"""The order of images: every image once an epoch, and a pure function of the number of the mini-batch."""

import numpy as np
import pytest

from roi_data_layer.order import BatchOrder, sampling_rng


def order(n_wide, n_tall, size, grouping=True, seed=3):
    return BatchOrder(seed, [4] * n_wide + [2] * n_tall, [3] * (n_wide + n_tall), size, grouping)


def epoch(batches, e):
    n = batches.batches_per_epoch
    return np.concatenate([batches(e * n + k) for k in range(n)])


@pytest.mark.parametrize(('wide', 'tall', 'size'), [(6, 4, 2), (5, 4, 2), (5, 5, 2), (1, 0, 2), (3, 1, 5), (7, 3, 1)])
@pytest.mark.parametrize('grouping', [True, False])
def test_every_image_once_an_epoch(wide, tall, size, grouping):
    batches = order(wide, tall, size, grouping)
    for e in range(3):
        images = epoch(batches, e)
        assert len(images) == batches.batches_per_epoch * size
        np.testing.assert_array_equal(np.unique(images), np.arange(wide + tall))
        assert len(images) - (wide + tall) < size or wide + tall < size  # filled up, by less than a mini-batch


def test_pairs_are_alike():
    batches = order(5, 7, 2)
    mixed = [len({image < 5 for image in batches(n)}) > 1 for n in range(6)]
    assert sum(mixed) == 1 and mixed[-1]  # what is left over of both: one pair in six


def test_any_mini_batch_can_be_asked_for_at_any_time():
    forward = [order(5, 4, 2)(n).tolist() for n in range(20)]
    batches = order(5, 4, 2)
    assert [batches(n).tolist() for n in reversed(range(20))] == forward[::-1]


def test_epochs_and_seeds_differ():
    batches = order(50, 0, 1)
    assert epoch(batches, 0).tolist() != epoch(batches, 1).tolist()
    assert epoch(batches, 0).tolist() != epoch(order(50, 0, 1, seed=4), 0).tolist()
    draws = {(s, n): sampling_rng(s, n).integers(2**40) for s in range(3) for n in range(3)}
    assert len(set(draws.values())) == 9


def test_no_images():
    with pytest.raises(ValueError, match='the training set has no images'):
        order(0, 0, 2)
