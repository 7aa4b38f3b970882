#!/usr/bin/env bash
# Fetch the selective search boxes of VOC 2007 and 2012 published with Fast R-CNN (0.5 GB) into data/selective_search_data.
#
#   data/scripts/fetch_selective_search_data.sh
#
# An archive selective_search_data.tgz that lies in data/ already is used. SELECTIVE_SEARCH_URL: another address to fetch
# it from (without the file name). Without it: tools/make_proposals.py computes such boxes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/archive.sh
SITES=("${SELECTIVE_SEARCH_URL:-https://dl.dropboxusercontent.com/s/orrt7o6bp6ae0tc}")
[ -n "${SELECTIVE_SEARCH_URL:-}" ] || SITES+=(https://people.eecs.berkeley.edu/~rbg/fast-rcnn-data)

if [ -e selective_search_data/voc_2007_trainval.mat ]; then
    echo "$PWD/selective_search_data is there already"
else
    fetch_archive selective_search_data.tgz 7078c1db87a7851b31966b96774cd9b9 "${SITES[@]}"
    unpack_into selective_search_data selective_search_data.tgz
fi
