#!/bin/sh
# Builds the source archive and the wheel in dist/, and once more in build/again from the
# files of that source archive: tools/check_dist.py compares the two.
#   tools/build_dist.sh DIRECTORY-OF-PROGRAMS
# SOURCE_DATE_EPOCH is the date of all files; without it that of the last commit.
set -eu
cd "$(dirname "$0")/.."

bin=$(cd "$1" && pwd)
again=$PWD/build/again
PATH=$bin:$PATH
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 315532800)}
HATCH_BUILD_HOOK_ENABLE_SBOM=true
export PATH SOURCE_DATE_EPOCH HATCH_BUILD_HOOK_ENABLE_SBOM

# The tools of the environment build: they are those that were checked.
build() {
    "$bin/python" -m build --no-isolation --outdir "$1" "$2" >build/build.log 2>&1 || {
        cat build/build.log
        exit 1
    }
}

rm -rf dist "$again"
mkdir -p "$again/files"
build dist .
tar -xzf dist/*.tar.gz -C "$again/files" --strip-components=1
umask 077 # of another machine: it must not show
build "$again" "$again/files"
rm -rf "$again/files"
