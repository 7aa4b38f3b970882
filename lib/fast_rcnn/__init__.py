"""Fast R-CNN: the detector's settings, arithmetic, training loop and test loop.

Who may import whom: `train` and `test` stand on `roi_data_layer` and `rpn`, on a data set given by the caller
(`detection_data`) and on pycaffe's public names. Three modules are leaves, which import nothing of this project, so
that `roi_data_layer` and `rpn` may use them too: `config` (the settings), `bbox_transform` (box arithmetic) and `nms`.

Boxes are inclusive pixels (x1, y1, x2, y2), counted from 0; images are BGR arrays, height x width x 3.
"""

import detection_data  # noqa: F401  makes the family's names known: scripts import `datasets.factory` after this package
