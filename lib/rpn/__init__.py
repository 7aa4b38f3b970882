"""Region proposals from the net itself: the layers of Faster R-CNN, by the names that published prototxts give them.

Ren, He, Girshick, Sun: Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, NIPS 2015; the
arithmetic is that of py-faster-rcnn's lib/rpn.

`generate_anchors` (the boxes that the net looks at), `anchor_targets` (which of them show an object), `proposals`
(boxes out of what the net says) and `proposal_targets` (which proposals to learn from) are functions on arrays;
`..._layer` are Caffe Python layers over them, for one image a pass or several. `generate` runs a proposal net over a
data set.

Of `fast_rcnn` this package uses the three leaf modules `config`, `bbox_transform` and `nms`, of `roi_data_layer` the
one that turns images into network input.
"""
