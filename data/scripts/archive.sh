# Sourced by the fetch_*.sh scripts: download an archive, verify it, unpack it. Nothing is unpacked unverified.

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

md5_of() {
    if command -v md5sum > /dev/null; then md5sum < "$1" | cut -d' ' -f1; else md5 -q "$1"; fi
}

# fetch_archive URL FILE MD5: have FILE, with that checksum. One that is there already is verified, not fetched; an
# interrupted download goes on where it stopped.
fetch_archive() {
    local url=$1 file=$2 expected=$3 got
    if [ -f "$file" ]; then
        got=$(md5_of "$file")
        [ "$got" = "$expected" ] || die "$PWD/$file has MD5 $got, expected $expected; move it away and run this again"
        echo "$file is here, its checksum is right"
        return
    fi
    command -v curl > /dev/null || die "needs curl; or download $url yourself, put it into $PWD and run this again"
    if [ ! -f "$file.part" ] || [ "$(md5_of "$file.part")" != "$expected" ]; then
        echo "downloading $url"
        curl --fail --location --retry 5 --retry-delay 2 --continue-at - --output "$file.part" "$url" ||
            die "could not download $url; what has arrived is kept in $PWD/$file.part. Run this again to go on, or put \
the archive into $PWD yourself"
    fi
    got=$(md5_of "$file.part")
    if [ "$got" != "$expected" ]; then
        rm -f "$file.part"
        die "$url has MD5 $got, expected $expected: not the published file (moved, or damaged on the way); removed. \
If you have the archive, put it into $PWD and run this again"
    fi
    mv "$file.part" "$file"
}

# unpack_into FOLDER ARCHIVE...: the archives' contents, less their top folder, as FOLDER, which appears when complete.
# If FOLDER is there already the files join those in it, each whole.
unpack_into() {
    local folder=$1 archive
    shift
    rm -rf "$folder.unpacking"
    mkdir "$folder.unpacking"
    for archive in "$@"; do
        echo "unpacking $archive"
        tar -xf "$archive" -C "$folder.unpacking" --strip-components=1 --no-same-owner ||
            die "could not unpack $PWD/$archive (is the disk full?)"
    done
    if [ -d "$folder" ]; then
        mv "$folder.unpacking"/* "$folder"
        rmdir "$folder.unpacking"
    else
        mv "$folder.unpacking" "$folder"
    fi
    echo "ready: $PWD/$folder; the archives ($*) may be removed"
}
