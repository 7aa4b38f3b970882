"""Data sets and blobs simple enough to see through, for tests; and where the recorded numbers are."""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / 'golden' / 'original'


class ListImdb:
    """A data set out of lists; `images`: dictionaries of path, size, boxes, classes, proposals."""

    def __init__(self, images, classes, name='list_train'):
        self._images = images
        self.classes = classes
        self.num_classes = len(classes)
        self.num_images = len(images)
        self.image_index = [str(i) for i in range(len(images))]
        self.name = name
        self.evaluated = None

    def image_path_at(self, i):
        return str(self._images[i]['path'])

    def annotation(self, i):
        image = self._images[i]
        boxes = np.array(image['boxes'], dtype=np.float32).reshape(-1, 4)
        return {
            'boxes': boxes,
            'gt_classes': np.array(image['classes'], dtype=np.int32),
            'difficult': np.array(image.get('difficult', [False] * len(boxes)), dtype=bool),
            'width': image['size'][0],
            'height': image['size'][1],
        }

    def proposals_of(self, i):
        return np.array(self._images[i]['proposals'], dtype=np.float32).reshape(-1, 4)

    def evaluate_detections(self, all_boxes, output_dir):
        self.evaluated = all_boxes


class Blob:
    """As much of a pycaffe blob as a Python layer touches."""

    def __init__(self, data=()):
        self.data = np.asarray(data, dtype=np.float32)
        self.diff = np.zeros_like(self.data)

    def reshape(self, *shape):
        self.data = np.zeros(shape, dtype=np.float32)
        self.diff = np.zeros_like(self.data)
