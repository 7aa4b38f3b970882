# Sourced by the fetch_*.sh scripts: download an archive, verify it, unpack it. Nothing is unpacked unverified.

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

md5_of() {
    if command -v md5sum > /dev/null; then md5sum < "$1" | cut -d' ' -f1; else md5 -q "$1"; fi
}

# download FILE ADDRESS: go on where FILE ends, or from the start where that site cannot (curl's status 33 and 36)
download() {
    local status=0 options=(--fail --location --connect-timeout 30 --retry 3 --retry-delay 2)
    curl "${options[@]}" --continue-at - --output "$1" "$2" || status=$?
    case $status in
        33 | 36) curl "${options[@]}" --output "$1" "$2" ;;
        *) return $status ;;
    esac
}

# fetch_archive FILE MD5 SITE...: have FILE, with that checksum, from the first of the sites that gives it. One that is
# there already is verified, not fetched; an interrupted download goes on where it stopped.
fetch_archive() {
    local file=$1 expected=$2 site got problems=''
    shift 2
    if [ -f "$file" ]; then
        got=$(md5_of "$file")
        [ "$got" = "$expected" ] || die "$PWD/$file has MD5 $got, expected $expected; move it away and run this again"
        echo "$file is here, its checksum is right"
        return
    fi
    if [ -f "$file.part" ] && [ "$(md5_of "$file.part")" = "$expected" ]; then
        mv "$file.part" "$file"
        return
    fi
    command -v curl > /dev/null || die "needs curl; or download $1/$file yourself, put it into $PWD and run this again"
    for site in "$@"; do
        echo "downloading $site/$file"
        if ! download "$file.part" "$site/$file"; then
            problems+="could not download $site/$file; "
            continue
        fi
        got=$(md5_of "$file.part")
        if [ "$got" = "$expected" ]; then
            mv "$file.part" "$file"
            return
        fi
        rm -f "$file.part"
        problems+="$site/$file has MD5 $got, expected $expected: not the published file (moved, or damaged on the way), \
removed; "
    done
    [ ! -e "$file.part" ] || problems+="what has arrived is kept in $PWD/$file.part, run this again to go on; "
    die "${problems}if you have the archive, put it into $PWD and run this again"
}

# unzip_less_top ARCHIVE FOLDER: unzip, and take the contents of the top folders.
unzip_less_top() {
    local top=$2/.top
    command -v unzip > /dev/null || die "needs unzip"
    # find, for there are too many files for one command line
    unzip -q "$1" -d "$top" && find "$top" -mindepth 2 -maxdepth 2 -exec sh -c 'mv "$@" "$0"' "$2" {} + && rm -rf "$top"
}

# unpack_into FOLDER ARCHIVE...: the archives' contents, less their top folder, as FOLDER, which appears when complete.
# If FOLDER is there already the files join those in it, each whole.
unpack_into() {
    local folder=$1 archive
    shift
    rm -rf "$folder.unpacking"
    mkdir -p "$folder.unpacking"
    for archive in "$@"; do
        echo "unpacking $archive"
        case $archive in
            *.zip) unzip_less_top "$archive" "$folder.unpacking" ;;
            *) tar -xf "$archive" -C "$folder.unpacking" --strip-components=1 --no-same-owner ;;
        esac || die "could not unpack $PWD/$archive (is the disk full?)"
    done
    if [ -d "$folder" ]; then
        mv "$folder.unpacking"/* "$folder"
        rmdir "$folder.unpacking"
    else
        mv "$folder.unpacking" "$folder"
    fi
    echo "ready: $PWD/$folder; the archives ($*) may be removed"
}
