"""The split: by a seed, each class everywhere it can be, the same for every kind of labels."""

from collections import Counter

from projects.photographs import Box, Photograph
from projects.split import split_photographs


def photographs(*classes):
    """A photograph for each text; each of its letters is an object of that class."""
    return [
        Photograph(f'/x/{k:03d}.jpg', 10, 10, tuple(Box(c, 0, 0, 5, 5, False, '') for c in letters))
        for k, letters in enumerate(classes)
    ]


def counts(dealt):
    return {split: Counter(box.name for p in part for box in p.boxes) for split, part in dealt.items()}


def test_shares_and_rare_classes():
    dealt = split_photographs(photographs(*['a'] * 97, 'ab', 'ab', 'ab'), '/x', (70, 15, 15), 3)
    assert {split: len(part) for split, part in dealt.items()} == {'train': 70, 'val': 15, 'test': 15}
    assert [counts(dealt)[split]['b'] for split in dealt] == [1, 1, 1] or counts(dealt)['train']['b'] == 2


def test_a_class_with_few_photographs_reaches_each_split():
    dealt = split_photographs(photographs(*['a'] * 60, *['b'] * 10, *['abc'] * 30), '/x', (70, 15, 15), 3)
    for part in counts(dealt).values():
        assert set(part) == {'a', 'b', 'c'}


def test_the_seed_alone_decides():
    some = photographs(*['a', 'b', 'ab'] * 20)
    first = split_photographs(some, '/x', (70, 15, 15), 3)
    assert first == split_photographs(some[::-1], '/x', (70, 15, 15), 3)
    assert first != split_photographs(some, '/x', (70, 15, 15), 4)


def test_nothing_is_lost_or_dealt_twice():
    some = photographs(*['a', '', 'ab'] * 9)
    dealt = split_photographs(some, '/x', (80, 0, 20), 1)
    assert sorted(p.path for part in dealt.values() for p in part) == [p.path for p in some]
    assert dealt['val'] == []
