"""The training set, against the original's, and its edge cases."""

import numpy as np
import pytest
from stand_in_data import ListImdb

from fast_rcnn.config import cfg
from ranks.message import pack, unpack
from ranks.place import Place
from roi_data_layer.roidb import Roidb, add_bbox_regression_targets, flip_boxes, match


def one_image(**changes):
    image = {'path': 'a.jpg', 'size': (100, 50), 'boxes': [[10, 10, 29, 29]], 'classes': [1]}
    image['proposals'] = [[10, 10, 29, 34], [60, 10, 79, 29]]
    return {**image, **changes}


def imdb(*images):
    return ListImdb(list(images), ['__background__', 'cat', 'dog'])


def test_entries_are_the_original_s(blood_cells, recorded):
    roidb = Roidb(blood_cells)
    assert len(roidb) == 6
    means, stds = add_bbox_regression_targets(roidb)
    np.testing.assert_allclose(means, recorded['means'], atol=1e-8)
    np.testing.assert_allclose(stds, recorded['stds'], rtol=1e-6)
    for i in range(6):
        entry = roidb[i]
        overlaps = recorded[f'{i}/overlaps']
        assert entry['flipped'] == recorded[f'{i}/flipped']
        np.testing.assert_array_equal(entry['boxes'], recorded[f'{i}/boxes'])
        np.testing.assert_array_equal(entry['gt_classes'][entry['gt_classes'] > 0], recorded[f'{i}/gt_classes'])
        np.testing.assert_array_equal(entry['max_overlaps'], overlaps.max(axis=1))
        np.testing.assert_array_equal(entry['max_classes'], overlaps.argmax(axis=1))
        np.testing.assert_allclose(entry['bbox_targets'], recorded[f'{i}/bbox_targets'], atol=2e-5)


def by_ranks(make, count, monkeypatch):
    """The roidbs that `make()` gives at each of several ranks, which are called one after the other.

    What they tell each other is found out first: where a rank asks for something that is not known yet, it is what all
    of them say there.
    """

    class Asked(Exception):
        pass

    known = []
    while True:
        found, said = [], []
        for rank in range(count):
            answers = iter(known)

            def share(value, answers=answers):
                answer = next(answers, None)
                if answer is None:
                    raise Asked(pack(value))
                return [unpack(each) for each in answer]

            monkeypatch.setattr('ranks._Process.place', Place(rank, count))
            monkeypatch.setattr('ranks.share', share)
            try:
                found.append(make())
            except Asked as asked:
                said.append(asked.args[0])
        monkeypatch.undo()
        if not said:
            return found
        known.append(said)


@pytest.mark.parametrize('count', [2, 3, 7])
def test_several_ranks_look_at_a_part_each_and_know_what_one_does(count, monkeypatch, capsys):
    """Parts of 2 images, of 9: one of them cannot be trained on, and one has a size that had to be measured."""
    images = [one_image(path=f'{i}.jpg', size=(100 + i, 50), boxes=[[10, 10, 29, 29 + i]]) for i in range(9)]
    images[5] = one_image(path='empty.jpg', boxes=[], classes=[], proposals=[])

    class Noting(ListImdb):
        noted = ()

        def annotation(self, i):
            self.noted = (*self.noted, i) if i == 7 else self.noted
            return super().annotation(i)

        def notes(self):
            return list(self.noted)

        def add_notes(self, notes):
            self.noted = (*self.noted, *notes)

        def put_right(self):
            return [f'put right: {sorted(set(self.noted))}']

    def make(of_several=True):
        return Roidb(Noting(images, ['__background__', 'cat', 'dog']), by_ranks=of_several)

    monkeypatch.setattr('roi_data_layer.roidb.PART', 2)
    one = make(False)
    said = capsys.readouterr().out
    assert '1 of 9 images left out' in said and 'empty.jpg' in said and 'put right: [7]' in said
    with pytest.MonkeyPatch.context() as patch:
        several = by_ranks(make, count, patch)
    capsys.readouterr()
    for roidb in several:
        assert roidb.widths.tobytes() == one.widths.tobytes() and roidb.heights.tobytes() == one.heights.tobytes()
        assert roidb.bbox_means.tobytes() == one.bbox_means.tobytes()
        assert roidb.bbox_stds.tobytes() == one.bbox_stds.tobytes()
        assert [roidb[i]['image'] for i in range(16)] == [one[i]['image'] for i in range(16)]


def test_mirrored_copies_follow_all_originals():
    roidb = Roidb(imdb(one_image(path='a.jpg'), one_image(path='b.jpg', size=(30, 60))))
    assert [(e['image'], e['flipped']) for e in roidb] == [
        ('a.jpg', False), ('b.jpg', False), ('a.jpg', True), ('b.jpg', True),
    ]  # fmt: skip
    assert roidb.widths.tolist() == [100, 30, 100, 30]
    assert roidb.heights.tolist() == [50, 60, 50, 60]
    np.testing.assert_array_equal(roidb[-2]['boxes'][0], [70, 10, 89, 29])  # 100 - 29 - 1 and 100 - 10 - 1
    with pytest.raises(IndexError):
        roidb[4]


def test_without_mirroring():
    cfg.TRAIN.USE_FLIPPED = False
    assert len(Roidb(imdb(one_image()))) == 1


def test_mirroring_twice_is_nothing():
    boxes = np.array([[0, 5, 99, 6], [3, 1, 3, 1]], dtype=np.float32)
    np.testing.assert_array_equal(flip_boxes(flip_boxes(boxes, 100), 100), boxes)


def test_difficult_objects_are_no_ground_truth():
    image = one_image(boxes=[[10, 10, 29, 29], [60, 10, 79, 29]], classes=[1, 2], difficult=[False, True])
    entry = Roidb(imdb(image))[0]
    assert entry['gt_classes'].tolist() == [1, 0, 0]
    assert entry['max_classes'].tolist() == [1, 1, 0]  # the proposal on the difficult object is background


def test_matching_prefers_the_first_of_equals_and_itself():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9], [50, 50, 59, 59]], dtype=np.float32)
    overlaps, classes, nearest = match(boxes, np.array([2, 1, 0, 0]))
    assert classes.tolist() == [2, 1, 2, 0]
    assert nearest[:3].tolist() == [0, 1, 0]
    assert overlaps.tolist() == [1, 1, 1, 0]


def test_targets_start_at_the_threshold():
    cfg.TRAIN.BBOX_NORMALIZE_TARGETS = False
    image = one_image(proposals=[[10, 10, 29, 49], [10, 10, 29, 50]])  # IoU 400/800 and 400/820
    targets = Roidb(imdb(image), use_flipped=False)[0]['bbox_targets']
    assert targets[:, 0].tolist() == [1, 1, 0]
    np.testing.assert_allclose(targets[1], [1, 0, -0.25, 0, np.log(0.5)], rtol=1e-6)
    assert not targets[2].any()


def test_prescribed_statistics():
    cfg.TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED = True
    roidb = Roidb(imdb(one_image(proposals=[[10, 10, 29, 49]])))
    np.testing.assert_array_equal(roidb.bbox_stds, [cfg.TRAIN.BBOX_NORMALIZE_STDS] * 3)
    np.testing.assert_allclose(roidb[0]['bbox_targets'][1], [1, 0, -2.5, 0, np.log(0.5) / 0.2], rtol=1e-6)


def test_targets_that_are_all_alike_stay_numbers():
    roidb = Roidb(imdb(one_image(proposals=[])))  # the only RoI is the ground truth: every target is 0
    assert np.isfinite(roidb[0]['bbox_targets']).all()
    np.testing.assert_array_equal(roidb.bbox_stds[1], 1)  # seen, but never varying
    np.testing.assert_array_equal(roidb.bbox_stds[2], 0)  # never seen


def test_images_without_usable_rois_are_left_out_in_words(capsys):
    empty = one_image(path='empty.jpg', boxes=[], classes=[])  # with BG_THRESH_LO 0.1 its proposals are nothing
    roidb = Roidb(imdb(empty, one_image()))
    assert [entry['image'] for entry in roidb] == ['a.jpg', 'a.jpg']
    assert '1 of 2 images left out' in capsys.readouterr().out
    cfg.TRAIN.BG_THRESH_LO = 0.0
    assert len(Roidb(imdb(empty, one_image()))) == 4  # now they are background
    cfg.TRAIN.BG_THRESH_LO = 0.1
    with pytest.raises(ValueError, match='list_train: no image to train on: of 1 images'):
        Roidb(imdb(empty))


def test_an_image_too_narrow_for_the_net_is_told_before_training_starts():
    with pytest.raises(ValueError, match=r'thin\.jpg: an image of 3000 x 1 pixels, scaled .* has a side of 0 pixels'):
        Roidb(imdb(one_image(), one_image(path='thin.jpg', size=(3000, 1), boxes=[[0, 0, 9, 0]])))
