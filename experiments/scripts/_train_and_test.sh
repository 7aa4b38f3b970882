#!/bin/bash
# Trains and tests one method: _train_and_test.sh METHOD VOC_SPLIT GPU NET DATASET [options of train_net.py and test_net.py]
# Called by the scripts beside it. METHOD is a folder of models/<dataset>/<NET>, VOC_SPLIT is 07 or 07+12.
# ITERS in the environment: that many iterations in place of those published, for a trial run; of faster_rcnn_alt_opt that
# many in each stage, or four numbers.
set -euo pipefail

if [ $# -lt 5 ]; then
  echo "usage: $(basename "${CALLED_AS:-$0}") GPU NET DATASET [--set KEY VALUE ...]" >&2
  echo "  ITERS=200 before it: a trial run of so many iterations; with several GPUs --scale_batch, --wire bf16 before --set" >&2
  echo "  GPU: its number, several (0,1), all, cpu, or cpu:2; NET: VGG16, VGG_CNN_M_1024, ZF, ResNet-50 or MobileNet-v2; DATASET: pascal_voc or coco" >&2
  exit 2
fi
METHOD=$1 VOC_SPLIT=$2 GPU=$3 NET=$4 DATASET=$5
shift 5
GIVEN_ITERS=${ITERS:-}
# What is said of training alone: how several ranks do it
TRAINING=() BOTH=()
while [ $# -gt 0 ] && [ "$1" != --set ]; do
  case "$1" in
    --scale_batch|--wire=*) TRAINING+=("$1") ;;
    --wire) TRAINING+=("$1" ${2+"$2"}); shift $(($# > 1)) ;;
    *) BOTH+=("$1") ;;
  esac
  shift
done
set -- ${BOTH[@]+"${BOTH[@]}"} "$@"

cd "$(dirname "$0")/../.."
export PYTHONUNBUFFERED=1
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi

TEST_IMDB=voc_2007_test NUM_DETS=2000 DET_THRESH=0.00001
case "$DATASET/$VOC_SPLIT" in
  pascal_voc/07) TRAIN_IMDB=voc_2007_trainval ITERS=40000 ;;
  pascal_voc/07+12) TRAIN_IMDB=voc_2007_trainval+voc_2012_trainval ITERS=80000 ;;
  # COCO has one training set whatever VOC_SPLIT; iterations and lr steps are those of py-faster-rcnn's Fast R-CNN.
  coco/07) TRAIN_IMDB=coco_2014_train ITERS=280000 TEST_IMDB=coco_2014_minival DET_THRESH=0.001 NUM_DETS=100 ;;
  coco/*)
    case "$METHOD" in rfcn_*) ;; *) echo "COCO has one training set: use fast_rcnn.sh or fast_rcnn_ohem.sh" >&2; exit 2 ;; esac
    TRAIN_IMDB=coco_2014_train TEST_IMDB=coco_2014_minival DET_THRESH=0.001 NUM_DETS=100 ;;
  *) echo "unknown data set '$DATASET'; there are: pascal_voc, coco" >&2; exit 2 ;;
esac
# py-faster-rcnn's iterations for Faster R-CNN end to end
case "$METHOD/$DATASET" in
  faster_rcnn_end2end*/pascal_voc) ITERS=70000 ;;
  faster_rcnn_end2end*/coco) ITERS=490000 ;;
  # py-R-FCN's, for COCO those of its ResNet-101
  rfcn_end2end*/pascal_voc) ITERS=110000 ;;
  rfcn_end2end/coco) ITERS=960000 ;;
  rfcn_end2end_ohem/coco) ITERS=1920000 ;;
esac
ITERS=${GIVEN_ITERS:-$ITERS}
STAGE_ITERS=()
if [ -n "$GIVEN_ITERS" ]; then
  read -r -a STAGE_ITERS <<< "$GIVEN_ITERS"
  for N in "${STAGE_ITERS[@]}"; do
    [[ $N =~ ^[1-9][0-9]*$ ]] || { echo "ITERS is '$GIVEN_ITERS'; expected a number of iterations" >&2; exit 2; }
  done
  [ ${#STAGE_ITERS[@]} -eq 1 ] && STAGE_ITERS=("$ITERS" "$ITERS" "$ITERS" "$ITERS")
  if [ ${#STAGE_ITERS[@]} -ne 4 ] || { [ "$METHOD" != faster_rcnn_alt_opt ] && [[ $GIVEN_ITERS == *" "* ]]; }; then
    echo "ITERS is '$GIVEN_ITERS'; expected one number (four for the stages of faster_rcnn_alt_opt)" >&2; exit 2
  fi
  STAGE_ITERS=(--iters "${STAGE_ITERS[@]}")
fi
MODELS=models/$DATASET/$NET/$METHOD
# R-FCN starts from the weights that ResNet's authors published; the other nets of these two from tools/import_weights.py's
case "$METHOD/$NET" in
  rfcn_*/*) WEIGHTS=data/imagenet_models/$NET-model.caffemodel ;;
  */ResNet-50|*/MobileNet-v2) WEIGHTS=data/imagenet_models/$NET-folded.caffemodel ;;
  *) WEIGHTS=data/imagenet_models/$NET.v2.caffemodel ;;
esac
if [ ! -d "$MODELS" ]; then
  NETS=$(cd "models/$DATASET" && ls -d -- */"$METHOD" 2>/dev/null | cut -d / -f 1 | tr '\n' ' ' || true)
  echo "there is no folder $MODELS; ${NETS:+NET is one of: }${NETS:-no net of $DATASET has $METHOD}" >&2
  exit 2
fi

mkdir -p experiments/logs
SLUG=$(echo "$*" | sed 's,[^A-Za-z0-9.+=-],_,g')
LOG=experiments/logs/${METHOD}_${VOC_SPLIT}_${NET}_${SLUG}.txt.$(date +'%Y-%m-%d_%H-%M-%S')
exec &> >(tee -a "$LOG")
echo "Logging output to $LOG"

run() {
  echo "+ $*"
  "$@"
}
if [ "$METHOD" = faster_rcnn_alt_opt ]; then
  if [ ${#TRAINING[@]} -gt 0 ]; then
    echo "${TRAINING[*]}: not of the four stages, whose models are found by their numbers of iterations" >&2; exit 2
  fi
  TEST_NET=$MODELS/faster_rcnn_test.pt
  time run "$PYTHON" tools/train_faster_rcnn_alt_opt.py --gpu "$GPU" \
    --net_name "$NET" \
    --models "models/$DATASET" \
    --weights "$WEIGHTS" \
    --imdb "$TRAIN_IMDB" \
    --cfg "experiments/cfgs/$METHOD.yml" \
    ${STAGE_ITERS[@]+"${STAGE_ITERS[@]}"} \
    "$@"
  NET_FINAL=$(sed -n 's/^Final model: //p' "$LOG" | tail -n 1)
elif [ "$METHOD" = fast_rcnn_adv ] || [ "$METHOD" = fast_rcnn_ohem_adv ]; then
  TEST_NET=models/$DATASET/$NET/fast_rcnn/test.prototxt
  stage() { # METHOD ITERATIONS WEIGHTS CFG [options]: trains, and leaves the model's name in TRAINED
    time run "$PYTHON" tools/train_net.py --gpu "$GPU" --solver "models/$DATASET/$NET/$1/solver.prototxt" \
      --weights "$3" --imdb "$TRAIN_IMDB" --iters "$2" --cfg "experiments/cfgs/$4.yml" ${TRAINING[@]+"${TRAINING[@]}"} "${@:5}"
    TRAINED=$(sed -n 's/^Wrote snapshot to: //p' "$LOG" | tail -n 1)
  }
  echo "~~~~ Stage 1: the detector"
  stage fast_rcnn_std $((ITERS / 4 > 0 ? ITERS / 4 : 1)) "data/imagenet_models/$NET.v2.caffemodel" fast_rcnn_adv "$@"
  DETECTOR=$TRAINED
  echo "~~~~ Stage 2: the adversary, beside it"
  stage fast_rcnn_adv_pretrain $((ITERS * 5 / 8 > 0 ? ITERS * 5 / 8 : 1)) "$DETECTOR" fast_rcnn_adv_pretrain "$@"
  ADVERSARY=$TRAINED INIT=$(dirname "$DETECTOR")/${METHOD}_init.caffemodel
  run "$PYTHON" tools/do_net_surgery.py --gpu cpu --out_net_def "$MODELS/train.prototxt" \
    --net_surgery_json "$MODELS/init_weights.json" \
    --model "models/$DATASET/$NET/fast_rcnn_adv_pretrain/train.prototxt=$ADVERSARY" \
    --model "$TEST_NET=$DETECTOR" --out_net_file "$INIT" --cfg "experiments/cfgs/$METHOD.yml" "$@"
  echo "~~~~ Stage 3: both"
  stage "$METHOD" "$ITERS" "$INIT" "$METHOD" "$@"
  NET_FINAL=$TRAINED
else
  TEST_NET=$MODELS/test.prototxt
  time run "$PYTHON" tools/train_net.py --gpu "$GPU" \
    --solver "$MODELS/solver.prototxt" \
    --weights "$WEIGHTS" \
    --imdb "$TRAIN_IMDB" \
    --iters "$ITERS" \
    --cfg "experiments/cfgs/$METHOD.yml" \
    ${TRAINING[@]+"${TRAINING[@]}"} "$@"
  NET_FINAL=$(sed -n 's/^Wrote snapshot to: //p' "$LOG" | tail -n 1)
fi
time run "$PYTHON" tools/test_net.py --gpu "$GPU" \
  --def "$TEST_NET" \
  --net "$NET_FINAL" \
  --imdb "$TEST_IMDB" \
  --cfg "experiments/cfgs/$METHOD.yml" \
  --num_dets "$NUM_DETS" \
  --det_thresh "$DET_THRESH" \
  "$@"
