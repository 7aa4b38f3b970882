#!/usr/bin/env bash
# Fetch PASCAL VOC into data/VOCdevkit<year>, where Fast R-CNN looks for it.
#
#   data/scripts/fetch_voc.sh [2007] [2012]        2007 if no year is given
#
# An archive that lies in data/ already is used. VOC_URL: another address to fetch the archives from, for instance
# file:///archives or http://mirror/voc.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/archive.sh

# from YEAR FILE MD5: one archive, from the first site that has it
from() {
    local sites=("${VOC_URL:-http://host.robots.ox.ac.uk/pascal/VOC/voc$1}")
    [ -n "${VOC_URL:-}" ] || sites+=("https://thor.robots.ox.ac.uk/pascal/VOC/voc$1" https://pjreddie.com/media/files)
    fetch_archive "$2" "$3" "${sites[@]}"
}

fetch_2007() {
    from 2007 VOCtrainval_06-Nov-2007.tar c52e279531787c972589f7e41ab4ae64
    from 2007 VOCtest_06-Nov-2007.tar b6e924de25625d8de591ea690078ad9f
    unpack_into VOCdevkit2007 VOCtrainval_06-Nov-2007.tar VOCtest_06-Nov-2007.tar
}

fetch_2012() { # the test set of 2012 has to be fetched by hand: it needs a login
    from 2012 VOCtrainval_11-May-2012.tar 6cd6e144f989b92b3379bac3b3de84fd
    unpack_into VOCdevkit2012 VOCtrainval_11-May-2012.tar
}

years=("$@")
[ $# -gt 0 ] || years=(2007)
for year in "${years[@]}"; do
    case $year in
        2007 | 2012) ;;
        *) die "no year $year here; expected 2007 or 2012 (others: link your own copy as $PWD/VOCdevkit$year)" ;;
    esac
done
for year in "${years[@]}"; do
    if [ -e "VOCdevkit$year" ]; then
        echo "$PWD/VOCdevkit$year is there already"
    else
        "fetch_$year"
    fi
done
