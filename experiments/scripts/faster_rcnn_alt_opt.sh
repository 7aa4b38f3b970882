#!/bin/bash
# Faster R-CNN in four stages, on VOC 2007 trainval: trains, then tests on VOC 2007 test. No proposals are needed.
# Usage: ./experiments/scripts/faster_rcnn_alt_opt.sh GPU NET DATASET [options of train_faster_rcnn_alt_opt.py and test_net.py]
#   ./experiments/scripts/faster_rcnn_alt_opt.sh 0 VGG16 pascal_voc
#   ./experiments/scripts/faster_rcnn_alt_opt.sh 0 ZF pascal_voc --set EXP_DIR foobar RNG_SEED 42
# Interrupted, the same command goes on where it was.
# A trial run: ITERS=200 ./experiments/scripts/faster_rcnn_alt_opt.sh ...
CALLED_AS=$0 exec "$(dirname "$0")/_train_and_test.sh" faster_rcnn_alt_opt 07 "$@"
