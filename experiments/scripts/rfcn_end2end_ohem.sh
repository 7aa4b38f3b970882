#!/bin/bash
# R-FCN end to end with OHEM as its authors use it, on VOC 2007 and 2012 trainval: trains, then tests on VOC 2007 test. No proposals are needed.
# Usage: ./experiments/scripts/rfcn_end2end_ohem.sh GPU NET DATASET [options of {train,test}_net.py]
#   ./experiments/scripts/rfcn_end2end_ohem.sh 0 ResNet-50 pascal_voc
#   ./experiments/scripts/rfcn_end2end_ohem.sh 0 ResNet-50 coco --set EXP_DIR foobar RNG_SEED 42 TRAIN.SCALES "[400, 500]"
CALLED_AS=$0 exec "$(dirname "$0")/_train_and_test.sh" rfcn_end2end_ohem 07+12 "$@"
