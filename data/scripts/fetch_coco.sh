#!/usr/bin/env bash
# Fetch COCO (Lin et al., ECCV 2014) into data/coco: annotations/*.json and images/<split><year>/.
#
#   data/scripts/fetch_coco.sh [2014] [2017]       2014 if no year is given; each is 20 GB of images
#
# 2014 comes with the annotations of minival and valminusminival (the val images of 2014, divided into 5,000 and 35,504).
# An archive that lies in data/ already is used. COCO_URL: another address to fetch the archives from (a folder that
# holds them all), for instance file:///archives or http://mirror/coco.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/archive.sh

# from FOLDER FILE MD5: one archive, from the first site that has it
from() {
    local sites=("${COCO_URL:-http://images.cocodataset.org/$1}")
    [ -n "${COCO_URL:-}" ] || sites+=("https://s3.amazonaws.com/images.cocodataset.org/$1")
    fetch_archive "$2" "$3" "${sites[@]}"
}

# images NAME MD5: the images of a split
images() {
    if [ -e "coco/images/$1" ]; then
        echo "$PWD/coco/images/$1 is there already"
    else
        from zips "$1.zip" "$2"
        unpack_into "coco/images/$1" "$1.zip"
    fi
}

# annotations YEAR MD5
annotations() {
    if [ -e "coco/annotations/instances_train$1.json" ]; then
        echo "$PWD/coco/annotations/instances_train$1.json is there already"
    else
        from annotations "annotations_trainval$1.zip" "$2"
        unpack_into coco/annotations "annotations_trainval$1.zip"
    fi
}

minival() {
    if [ -e coco/annotations/instances_minival2014.json ]; then
        echo "$PWD/coco/annotations/instances_minival2014.json is there already"
    else
        fetch_archive coco_annotations_minival.tgz 2d2b9d2283adb5e3b8d25eec88e65064 \
            "${COCO_URL:-https://dl.fbaipublicfiles.com/detectron/coco}"
        unpack_into coco/annotations coco_annotations_minival.tgz
    fi
}

fetch_2014() {
    annotations 2014 0a379cfc70b0e71301e0f377548639bd
    minival
    images train2014 0da8c0bd3d6becc4dcb32757491aca88
    images val2014 a3d79f5ed8d289b7a7554ce06a5782b3
}

fetch_2017() {
    annotations 2017 f4bbac642086de4f52a3fdda2de5fa2c
    images train2017 cced6f7f71b7629ddf16f17bbcfab6b2
    images val2017 442b8da7639aecaf257c1dceb8ba8c80
}

years=("$@")
[ $# -gt 0 ] || years=(2014)
for year in "${years[@]}"; do
    case $year in
        2014 | 2017) ;;
        *) die "no year $year here; expected 2014 or 2017" ;;
    esac
done
mkdir -p coco
for year in "${years[@]}"; do
    "fetch_$year"
done
