#!/bin/bash
# Faster R-CNN end to end, on VOC 2007 trainval: trains, then tests on VOC 2007 test. No proposals are needed.
# Usage: ./experiments/scripts/faster_rcnn_end2end.sh GPU NET DATASET [options of {train,test}_net.py]
#   ./experiments/scripts/faster_rcnn_end2end.sh 0 VGG16 pascal_voc
#   ./experiments/scripts/faster_rcnn_end2end.sh cpu ZF pascal_voc --set EXP_DIR foobar RNG_SEED 42 TRAIN.SCALES "[400, 500]"
# A trial run: ITERS=200 ./experiments/scripts/faster_rcnn_end2end.sh ...
CALLED_AS=$0 exec "$(dirname "$0")/_train_and_test.sh" faster_rcnn_end2end 07 "$@"
