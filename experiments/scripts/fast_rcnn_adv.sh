#!/bin/bash
# A-Fast-RCNN on VOC 2007 trainval, in three stages: the detector, an adversary beside it, both together; then tests on
# VOC 2007 test. ITERS in the environment are those of stage 3; stage 1 has a quarter of it, stage 2 five eighths.
# Usage: ./experiments/scripts/fast_rcnn_adv.sh GPU NET DATASET [options of {train,test}_net.py]
#   ./experiments/scripts/fast_rcnn_adv.sh 0 VGG16 pascal_voc
#   ./experiments/scripts/fast_rcnn_adv.sh 0 VGG16 pascal_voc --set EXP_DIR foobar RNG_SEED 42
CALLED_AS=$0 exec "$(dirname "$0")/_train_and_test.sh" fast_rcnn_adv 07 "$@"
