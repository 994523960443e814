"""Start what the shop needs, and stop all of it again.

A Service is any web server that can take over a listening socket: here the shop under
gunicorn. Use services as context managers, so that they end with the block, whatever
ends the block. Nothing here knows what a service is asked.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

__all__ = [
    "CACHEBRIDGE",
    "CACHES_PAGE",
    "REDIS_CACHE",
    "STAFF_TOKEN",
    "VAR_DIR",
    "Service",
    "ServiceError",
    "gunicorn",
    "manage",
    "prepare_database",
    "redis_database",
    "shop",
    "stop_on_signals",
]

CACHEBRIDGE: Final = "cachebridge.django_backend.CacheBridge"
REDIS_CACHE: Final = "django.core.cache.backends.redis.RedisCache"
CACHES_PAGE: Final = "admin/cachebridge/cache/"
STAFF_TOKEN: Final = secrets.token_urlsafe(9)

_ROOT: Final = Path(__file__).resolve().parent.parent
VAR_DIR: Final = _ROOT / "example_project" / "var"
_LOOPBACK: Final = "127.0.0.1"
_READY_S: Final = 30.0
_STOP_S: Final = 5.0
_LOG_TAIL: Final = 2_000


class ServiceError(RuntimeError):
    """A service did not come up; the message carries the end of its log."""


class Service:
    """A web server process of ours on a loopback port of its own."""

    def __init__(
        self,
        name: str,
        command: Callable[[int], list[str]],
        environment: Mapping[str, str],
        workers: int = 1,
    ) -> None:
        """Describe it; ``command`` gets the descriptor of the listening socket."""
        self.name = name
        self.workers = workers
        self._command = command
        self._environment = environment
        self._log = VAR_DIR / f"{name}.log"

    def __enter__(self) -> Self:
        """Start the process. Connections wait from now on, await_ready() or not."""
        VAR_DIR.mkdir(exist_ok=True)
        # The server inherits a socket that listens already: no other process can take
        # the port in between. Ours is closed, so that its end is seen as a refusal.
        with socket.create_server((_LOOPBACK, 0), backlog=512) as listener:
            # Connections inherit it; uvicorn takes a descriptor for no TCP socket.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.port: int = listener.getsockname()[1]
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    self._command(listener.fileno()),
                    cwd=_ROOT,
                    env={**os.environ, **self._environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[listener.fileno()],
                    # Ctrl-C is for us; we stop it in our own order.
                    start_new_session=True,
                )
        return self

    def __exit__(self, *exc_info: object) -> None:
        # SIGINT ends gunicorn without waiting for idle keep-alive connections.
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # its workers, too
            self._process.wait()

    @property
    def host(self) -> str:
        return _LOOPBACK

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    @property
    def pid(self) -> int:
        return self._process.pid

    def await_ready(self, path: str = "/") -> None:
        """Wait for a good answer. Raises ServiceError on any other, or on none."""
        connection = HTTPConnection(self.host, self.port, timeout=_READY_S)
        try:
            connection.request("GET", path)
            status = connection.getresponse().status
        except (OSError, HTTPException) as exc:
            raise ServiceError(self._complaint(f"no answer: {exc}")) from exc
        finally:
            connection.close()
        if status != HTTPStatus.OK:
            raise ServiceError(self._complaint(f"status {status}"))

    def _complaint(self, what: str) -> str:
        log = self._log.read_text("utf-8", errors="replace")[-_LOG_TAIL:].strip()
        return f"{self.name} did not come up: {what}. The end of {self._log}:\n{log}"


def gunicorn(
    application: str, *, workers: int, threads: int
) -> Callable[[int], list[str]]:
    """Say how to run a WSGI application; every connection stays at one worker."""

    def command(listener: int) -> list[str]:
        return [
            *(sys.executable, "-m", "gunicorn", application),
            *("--bind", f"fd://{listener}", "--no-control-socket"),
            *("--worker-class", "gthread", "--threads", str(threads)),
            *("--workers", str(workers), "--keep-alive", "75"),
        ]

    return command


def shop(
    name: str,
    backend: str,
    redis_url: str,
    *,
    memcached_url: str = "",
    workers: int = 2,
    threads: int = 8,
) -> Service:
    """Describe the shop on that cache backend, over Redis or over both servers."""
    return Service(
        name,
        gunicorn("example_project.wsgi", workers=workers, threads=threads),
        {
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "CACHEBRIDGE_ROLE": "shop",
            "SHOP_CACHE_BACKEND": backend,
            "SHOP_REDIS_URL": redis_url,
            "SHOP_MEMCACHED_URL": memcached_url,
            "SHOP_STAFF_TOKEN": STAFF_TOKEN,
        },
        workers,
    )


def prepare_database() -> str:
    """Create and fill the shop's database where that is still to be done."""
    manage("migrate", "--verbosity", "0")
    return manage("load_products")


def redis_database(url: str, number: int) -> str:
    """Address another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{number}"))


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does.

    Ctrl-C itself, too, where a script has put us in the background: its shell lets
    SIGINT be ignored there.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)


def manage(*arguments: str, **environment: str) -> str:
    """Run a command of ``manage.py``; return what it prints.

    Raises ServiceError if it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "example_project.manage", *arguments],
        cwd=_ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            **environment,
        },
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServiceError(f"{arguments[0]} failed:\n{done.stderr[-_LOG_TAIL:]}")
    return done.stdout.strip()
