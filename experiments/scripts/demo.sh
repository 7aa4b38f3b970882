#!/bin/bash
# The whole of OHEM in miniature, on the CPU: makes images, finds proposals, trains, tests, draws.  Usage: make demo
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
DATA=data/demo OUT=output/demo_ohem
MODELS=models/demo/small/fast_rcnn_ohem
ITERS=${ITERS:-1400} TRAIN_IMAGES=${TRAIN_IMAGES:-240} TEST_IMAGES=${TEST_IMAGES:-120}
export GLOG_minloglevel=${GLOG_minloglevel:-1}
LOG=experiments/logs/demo.txt
mkdir -p experiments/logs
: > "$LOG"

say() { printf '\n== %s\n' "$*"; }
quietly() { # output to the log; progress bars and errors, on standard error, stay on the screen
  "$@" >> "$LOG"
}

say "1/5 images: a small detection data set, drawn from a seed"
[ -f $DATA/ImageSets/Main/test.txt ] || quietly "$PYTHON" data/scripts/make_demo_data.py --out $DATA \
  --train "$TRAIN_IMAGES" --test "$TEST_IMAGES"
say "2/5 proposals: selective search"
quietly "$PYTHON" tools/make_proposals.py --imdb folder:$DATA:train
quietly "$PYTHON" tools/make_proposals.py --imdb folder:$DATA:test
say "3/5 training Fast R-CNN with OHEM, $ITERS iterations"
quietly "$PYTHON" tools/train_net.py --gpu cpu --solver $MODELS/solver.prototxt \
  --imdb folder:$DATA:train --iters "$ITERS" --cfg experiments/cfgs/demo_ohem.yml
WEIGHTS=$OUT/demo_train/small_fast_rcnn_ohem_iter_$ITERS.caffemodel
say "4/5 testing $WEIGHTS"
"$PYTHON" tools/test_net.py --gpu cpu --def $MODELS/test.prototxt --net "$WEIGHTS" \
  --imdb folder:$DATA:test --cfg experiments/cfgs/demo_ohem.yml | tee -a "$LOG" | sed -n '/^class/,$p'
say "5/5 pictures"
quietly "$PYTHON" tools/inspect_rois.py --gpu cpu --solver $MODELS/solver.prototxt --cfg experiments/cfgs/demo_ohem.yml \
  --weights "$WEIGHTS" --imdb folder:$DATA:train --batches 6 --out $OUT/mined
quietly "$PYTHON" tools/plot_training.py $OUT/demo_train --out $OUT/curves.png
quietly "$PYTHON" tools/demo.py --gpu cpu --def $MODELS/test.prototxt --net "$WEIGHTS" --classes $DATA/classes.txt \
  --cfg experiments/cfgs/demo_ohem.yml --out $OUT/detections \
  --images $(head -n 8 $DATA/ImageSets/Main/test.txt | sed "s|.*|$DATA/JPEGImages/&.jpg|")

cat <<MSG

Done. What there is now:
  $OUT/mined/*.png           what OHEM mined: all RoIs by loss, and the ones it learned from
  $OUT/mined/index.html      the same as a page to explore in a browser
  $OUT/curves.png            losses, objects among the mined RoIs, seconds of a step
  $OUT/detections/*.png      detections on test images, and detections.json
  $OUT/demo_test/            AP of each class (results.json), detections in VOC's format
  $WEIGHTS
  $LOG     the log of all this
MSG
