#!/bin/bash
# OHEM and the adversary of A-Fast-RCNN: as fast_rcnn_adv.sh, but in stage 3 cells of the hardest RoIs are dropped.
# Usage: ./experiments/scripts/fast_rcnn_ohem_adv.sh GPU NET DATASET [options of {train,test}_net.py]
#   ./experiments/scripts/fast_rcnn_ohem_adv.sh 0 VGG16 pascal_voc
CALLED_AS=$0 exec "$(dirname "$0")/_train_and_test.sh" fast_rcnn_ohem_adv 07 "$@"
