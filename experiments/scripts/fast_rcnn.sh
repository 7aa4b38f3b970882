#!/bin/bash
# Fast R-CNN with its classic sampling (foreground fraction, bg_lo): trains, then tests on VOC 2007 test.
# Usage: ./experiments/scripts/fast_rcnn.sh GPU NET DATASET [options of {train,test}_net.py]
#   ./experiments/scripts/fast_rcnn.sh 0 VGG16 pascal_voc
#   ./experiments/scripts/fast_rcnn.sh cpu VGG_CNN_M_1024 pascal_voc --set EXP_DIR foobar RNG_SEED 42 TRAIN.SCALES "[400, 500]"
# A trial run: ITERS=200 ./experiments/scripts/fast_rcnn.sh ...
CALLED_AS=$0 exec "$(dirname "$0")/_train_and_test.sh" fast_rcnn 07 "$@"
