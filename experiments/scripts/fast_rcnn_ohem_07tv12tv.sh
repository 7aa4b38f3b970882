#!/bin/bash
# Fast R-CNN with OHEM, VOC 2007 and 2012 trainval: trains, then tests on VOC 2007 test.
# Usage: ./experiments/scripts/fast_rcnn_ohem_07tv12tv.sh GPU NET DATASET [options of {train,test}_net.py]
#   ./experiments/scripts/fast_rcnn_ohem_07tv12tv.sh 0 VGG16 pascal_voc
#   ./experiments/scripts/fast_rcnn_ohem_07tv12tv.sh cpu VGG_CNN_M_1024 pascal_voc --set EXP_DIR foobar RNG_SEED 42 TRAIN.SCALES "[400, 500]"
# A trial run: ITERS=200 ./experiments/scripts/fast_rcnn_ohem_07tv12tv.sh ...
CALLED_AS=$0 exec "$(dirname "$0")/_train_and_test.sh" fast_rcnn_ohem 07+12 "$@"
