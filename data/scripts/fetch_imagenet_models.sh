#!/usr/bin/env bash
# Fetch the ImageNet models published with Fast R-CNN (CaffeNet, VGG_CNN_M_1024, VGG16; 1 GB) into data/imagenet_models.
#
#   data/scripts/fetch_imagenet_models.sh
#
# An archive imagenet_models.tgz that lies in data/ already is used. IMAGENET_MODELS_URL: another address to fetch it
# from (without the file name).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/archive.sh
SITES=("${IMAGENET_MODELS_URL:-https://dl.dropboxusercontent.com/s/riazjuizq0w7dqm}")
[ -n "${IMAGENET_MODELS_URL:-}" ] || SITES+=(https://people.eecs.berkeley.edu/~rbg/fast-rcnn-data)

if [ -e imagenet_models ]; then
    echo "$PWD/imagenet_models is there already"
else
    fetch_archive imagenet_models.tgz 8b1d4b9da0593fc70ef403284f810adc "${SITES[@]}"
    unpack_into imagenet_models imagenet_models.tgz
fi
