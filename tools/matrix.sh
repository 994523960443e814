#!/bin/sh
# Runs the tests on every supported combination of Python, Django and redis-py.
#   tools/matrix.sh [PYTEST-ARGUMENT ...]
# Each combination has its environment under .cache/matrix, made with uv where it is on
# PATH, else with the interpreters there (python3.12 ...) and those of pyenv. A Python
# that is not installed is left out, and said so. PYTHONS="3.12" narrows the choice.
set -eu
cd "$(dirname "$0")/.."

pythons=${PYTHONS:-3.11 3.12 3.13}
djangos='5.2 6.0'
redises='5 8'
root=.cache/matrix
mkdir -p "$root"
summary=$root/summary.txt
: >"$summary"
failed=0

find_python() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$candidate" -c 'import venv' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

# environment PYTHON DIRECTORY REQUIREMENT...
environment() {
    base=$1 python=$2/bin/python
    if ! "$python" -c '' 2>/dev/null; then
        "$base" -m venv --clear --without-pip "$2"
    fi
    shift 2
    if command -v uv >/dev/null; then
        uv pip install --quiet --python "$python" --group test --editable . "$@"
        return
    fi
    "$python" -m ensurepip >/dev/null 2>&1 || "$python" tools/fetch_pip.py
    "$python" -m pip install --quiet --upgrade 'pip>=25.1'
    "$python" -m pip install --quiet --group test --editable . "$@"
}

# combination PYTHON-VERSION PYTHON DJANGO REDIS PYTEST-ARGUMENT...
combination() {
    name="python $1, django $3, redis-py $4"
    directory=$root/py$1-django$3-redis$4
    base=$2 django=$3 redis=$4
    shift 4
    echo "== $name"
    if environment "$base" "$directory" "django~=$django.0" "redis==$redis.*" hiredis &&
        "$directory/bin/python" -m pytest -q "$@"; then
        echo "passed  $name" >>"$summary"
    else
        echo "FAILED  $name" >>"$summary"
        failed=1
    fi
}

for version in $pythons; do
    base=$(find_python "$version")
    if [ -z "$base" ]; then
        echo "absent  python $version" >>"$summary"
        continue
    fi
    for django in $djangos; do
        if [ "$version" = 3.11 ] && [ "$django" = 6.0 ]; then
            continue # Django 6.0 needs Python 3.12
        fi
        for redis in $redises; do
            combination "$version" "$base" "$django" "$redis" "$@"
        done
    done
done

echo
cat "$summary"
exit "$failed"
