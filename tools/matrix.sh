#!/bin/sh
# Runs the tests on every supported combination of Python, Django and redis-py.
#   tools/matrix.sh [PYTEST-ARGUMENT ...]     all tests, or those that are named
#   tools/matrix.sh --ci [PYTEST-ARGUMENT ...]   the newest: its unit tests
# Each combination has its environment under .cache/matrix, made with uv where it is on
# PATH, else with the interpreters there (python3.12 ...) and those of pyenv; it is
# installed into again only when the requirements change. A Python that is not installed
# is left out, and said so; with --ci and CI=true it is an error. PYTHONS="3.12", DJANGOS="6.1"
# and REDIS_PYS="8" narrow the choice.
set -eu
cd "$(dirname "$0")/.."

root=.cache/matrix
parallel="-n $((2 * $(getconf _NPROCESSORS_ONLN))) --dist loadfile"
mkdir -p "$root"
summary=$root/summary.txt
: >"$summary"
failed=0
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# Prints PYTHON DJANGO REDIS, a line for each combination.
combinations() {
    for python in ${PYTHONS:-3.11 3.12 3.13 3.14}; do
        for django in ${DJANGOS:-5.2 6.0 6.1}; do
            if [ "$python" = 3.11 ] && [ "$django" != 5.2 ]; then
                continue # Django 6 needs Python 3.12
            fi
            for redis in ${REDIS_PYS:-5 8}; do
                echo "$python $django $redis"
            done
        done
    done
}

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
    base=$1 directory=$2 python=$2/bin/python
    shift 2
    wanted=$(cksum <pyproject.toml)" $*"
    if "$python" -c '' 2>/dev/null && [ "$(cat "$directory/.ready" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if ! "$python" -c '' 2>/dev/null; then
        "$base" -m venv --clear --without-pip "$directory" || return
    fi
    if command -v uv >/dev/null; then
        uv pip install --quiet --python "$python" --group test --editable . "$@" || return
    else
        "$python" -m pip --version >/dev/null 2>&1 ||
            "$python" -m ensurepip >/dev/null 2>&1 ||
            "$python" tools/fetch_pip.py || return
        "$python" -m pip install --quiet --upgrade 'pip>=25.1' || return
        "$python" -m pip install --quiet --group test --editable . "$@" || return
    fi
    echo "$wanted" >"$directory/.ready"
}

# combination PYTHON-VERSION DJANGO REDIS PYTEST-ARGUMENT...
combination() {
    name="python $1, django $2, redis-py $3"
    base=$(find_python "$1")
    if [ -z "$base" ]; then
        if [ "$must_exist" = yes ]; then
            echo "FAILED  $name: there is no Python $1 on PATH or in pyenv" >>"$summary"
            failed=1
        else
            echo "absent  $name" >>"$summary"
        fi
        return
    fi
    directory=$root/py$1-django$2-redis$3
    django=$2 redis=$3
    shift 3
    echo "== $name"
    # shellcheck disable=SC2086 # the options are several words
    if environment "$base" "$directory" "django~=$django.0" "redis==$redis.*" hiredis &&
        tools/ensure_servers.sh "$directory" redis-server memcached &&
        $run "$directory/bin/python" $how -q $parallel "$@"; then
        echo "passed  $name" >>"$summary"
    else
        echo "FAILED  $name" >>"$summary"
        failed=1
    fi
}

must_exist=no
run='' how='-m pytest' # or with a second look at what fails
chosen=$(combinations)
if [ "${1:-}" = --ci ]; then
    shift
    chosen='3.13 6.1 8'
    if [ "${CI:-}" = true ]; then
        must_exist=yes
        run=tools/second_look.sh how=''
    fi
    if [ $# = 0 ]; then
        # Types are checked with mypy, once, by `make test`.
        set -- tests/unit -m "not proof" --ignore tests/unit/test_typing.py
    fi
fi

while read -r python django redis; do
    combination "$python" "$django" "$redis" "$@" </dev/null
done <<EOF
$chosen
EOF

echo
cat "$summary"
exit "$failed"
