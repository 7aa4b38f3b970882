"""Mini-batches of regions of interest (RoIs): from a data set to the blobs that a Fast R-CNN net trains on.

`roidb` (the training set, entry by entry) → `order` (which images make mini-batch n) → `minibatch` (their
blobs) → `prefetch` (the same in other processes) → `layer` (the Caffe Python layers). `mining` chooses the
hardest RoIs, by a rule that `mining_rules` finds by its name. `image_blob` turns images into network input, for
training and testing.

Of `fast_rcnn` this package uses the three leaf modules: `config`, `bbox_transform` and `nms`.
"""
