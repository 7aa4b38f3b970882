#!/bin/bash
# The whole of OHEM in miniature, on the CPU: makes images, finds proposals, trains, tests, draws.
# Usage: make demo, or make demo-faster for Faster R-CNN, which needs no proposals
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
METHOD=${1:-ohem}
case "$METHOD" in
  ohem) NAME=demo_ohem NET=fast_rcnn_ohem WHAT='Fast R-CNN with OHEM' STEPS=5 ITERS=${ITERS:-1400} ;;
  faster) NAME=demo_faster_rcnn_ohem NET=faster_rcnn_end2end_ohem WHAT='Faster R-CNN with OHEM' STEPS=4 ITERS=${ITERS:-2600} ;;
  *) echo "usage: $(basename "$0") [ohem|faster]" >&2; exit 2 ;;
esac
DATA=data/demo OUT=output/$NAME
MODELS=models/demo/small/$NET CFG=experiments/cfgs/$NAME.yml
TRAIN_IMAGES=${TRAIN_IMAGES:-240} TEST_IMAGES=${TEST_IMAGES:-120}
export GLOG_minloglevel=${GLOG_minloglevel:-1}
LOG=experiments/logs/$NAME.txt
mkdir -p experiments/logs
: > "$LOG"

STEP=0
say() { STEP=$((STEP + 1)); printf '\n== %s/%s %s\n' $STEP $STEPS "$*"; }
quietly() { # output to the log; progress bars and errors, on standard error, stay on the screen
  "$@" >> "$LOG"
}

say "images: a small detection data set, drawn from a seed"
[ -f $DATA/ImageSets/Main/test.txt ] || quietly "$PYTHON" data/scripts/make_demo_data.py --out $DATA \
  --train "$TRAIN_IMAGES" --test "$TEST_IMAGES"
if [ "$METHOD" = ohem ]; then
  say "proposals: selective search"
  quietly "$PYTHON" tools/make_proposals.py --imdb folder:$DATA:train
  quietly "$PYTHON" tools/make_proposals.py --imdb folder:$DATA:test
fi
say "training $WHAT, $ITERS iterations"
quietly "$PYTHON" tools/train_net.py --gpu cpu --solver $MODELS/solver.prototxt \
  --imdb folder:$DATA:train --iters "$ITERS" --cfg $CFG
PREFIX=$(sed -n 's/^snapshot_prefix: "\(.*\)"/\1/p' $MODELS/solver.prototxt)
WEIGHTS=$OUT/demo_train/${PREFIX}_iter_$ITERS.caffemodel
say "testing $WEIGHTS"
"$PYTHON" tools/test_net.py --gpu cpu --def $MODELS/test.prototxt --net "$WEIGHTS" \
  --imdb folder:$DATA:test --cfg $CFG | tee -a "$LOG" | sed -n '/^class/,$p'
say "pictures"
quietly "$PYTHON" tools/inspect_rois.py --gpu cpu --solver $MODELS/solver.prototxt --cfg $CFG \
  --weights "$WEIGHTS" --imdb folder:$DATA:train --batches 6 --out $OUT/mined
quietly "$PYTHON" tools/plot_training.py $OUT/demo_train --out $OUT/curves.png
quietly "$PYTHON" tools/demo.py --gpu cpu --def $MODELS/test.prototxt --net "$WEIGHTS" --classes $DATA/classes.txt \
  --cfg $CFG --out $OUT/detections \
  --images $(head -n 8 $DATA/ImageSets/Main/test.txt | sed "s|.*|$DATA/JPEGImages/&.jpg|")

cat <<MSG

Done. What there is now:
  $OUT/mined/*.png           what OHEM mined: the hardest RoIs by loss, and the ones it learned from
  $OUT/mined/index.html      the same as a page to explore in a browser
  $OUT/curves.png            losses, objects among the mined RoIs, seconds of a step
  $OUT/detections/*.png      detections on test images, and detections.json
  $OUT/demo_test/            AP of each class (results.json), detections in VOC's format
  $WEIGHTS
  $LOG     the log of all this
MSG
