#!/usr/bin/env bash
# Runs tests; those that fail run a second time, one after the other.
#   tools/second_look.sh PYTHON PYTEST-ARGUMENT ...
# For CI alone, where other work may take the machine from a test for seconds.  It fails
# if a test fails twice, or if more than three fail at first.  What failed only at first
# is named at the end: look for the clock in that test, and put an event in its place.
set -uo pipefail
cd "$(dirname "$0")/.."

python=$1
shift
failed=.cache/pytest/v/cache/lastfailed
rm -f "$failed"
"$python" -m pytest "$@"
status=$?
if [ "$status" != 1 ]; then
    exit "$status" # all passed, or the run itself went wrong
fi
names=$("$python" -c 'import json, sys; print("\n".join(json.load(open(sys.argv[1]))))' "$failed") || exit 1
if [ -z "$names" ] || [ "$(wc -l <<<"$names")" -gt 3 ]; then
    exit 1
fi
echo "== a second look at $(wc -l <<<"$names") test(s)"
"$python" -m pytest "$@" -n 0 --last-failed --last-failed-no-failures none || exit 1
echo "== FAILED AT FIRST, passed alone:"
echo "$names"
