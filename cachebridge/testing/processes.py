"""What private servers have in common: real processes that never outlive us.

Never talks to a server it did not start, and never writes outside of its directory.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar

from cachebridge.testing.ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PrivateServer", "ServerStartError", "started"]

_START_TIMEOUT_S: Final = 15.0
_ANSWER_TIMEOUT_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.005
_PORT_ATTEMPTS: Final = 20
_EXEC_ATTEMPTS: Final = 5
_LOG_NAME: Final = "server.log"
_LOG_TAIL: Final = 2_000
_PORT_TAKEN: Final = "Address already in use"

# Outlives its parent by one read(): when our end of its stdin closes, however we died,
# it ends the server and removes the directory that belongs to it.
_GUARD: Final = 'read -r _; kill -9 "$1"; [ -z "$2" ] || rm -rf -- "$2"'


class ServerStartError(RuntimeError):
    """A server program was found, but did not come up; the message has its log."""


class _PortTakenError(ServerStartError):
    """Another process bound the port first."""


class PrivateServer(ABC):
    """A server program of ours on a loopback port; subclasses say how to run it.

    Methods may be called from any thread. The server belongs to the process that
    started it: a forked child may use the address, but stop() does nothing there and
    the other methods raise. Without a directory it has a temporary one, removed by
    stop().
    """

    # Asks a server whose it is.
    _question: ClassVar[bytes]
    # What stop() sends.
    _stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        program: Path,
        port: int | None,
        args: Sequence[str],
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        self._program = program
        self._args = tuple(args)
        self._owns_directory = directory is None
        if directory is None:
            directory = tempfile.mkdtemp(prefix=f"cachebridge-{program.name}-")
        self.directory = Path(directory).absolute()
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._port = port

    @abstractmethod
    def _options(self, port: int) -> list[str]:
        """Return the arguments that precede those of the caller."""

    @abstractmethod
    def _is_answer_of(self, pid: int, replies: bytes) -> bool:
        """Whether these replies show that this process, and no other, serves the port.

        A server that wants a password first cannot be asked for its pid; any answer of
        it counts.
        """

    @property
    @abstractmethod
    def url(self) -> str:
        """The address as LOCATION wants it."""

    host: ClassVar = LOOPBACK
    """The loopback address the server is bound to."""

    @property
    def port(self) -> int:
        """The TCP port; stays the same over kill() and restart()."""
        if self._port is None:
            raise ServerStartError("the server has not been started")
        return self._port

    @property
    def pid(self) -> int:
        """The process id. Raises ServerStartError when the server is not running."""
        process = self._process
        if process is None:
            raise ServerStartError(f"the server on port {self._port} is not running")
        return process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process exists; a paused one does."""
        with self._lock:
            return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process else "stopped"
        return f"<{type(self).__name__} {self.host}:{self._port} {state}>"

    def stop(self) -> None:
        """End the server and remove its temporary directory. Stopping twice is fine."""
        # A forked child comes here too, from atexit or the end of a with block.
        if os.getpid() != self._owner:
            return
        with self._lock:
            self._end(self._stop_signal)
            atexit.unregister(self.stop)
            if self._owns_directory:
                shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """End the process at once with SIGKILL; restart() brings the port back."""
        self._require_owner()
        with self._lock:
            self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Replace the process by a fresh, empty one on the same port."""
        self._require_owner()
        with self._lock:
            self._end(signal.SIGKILL)
            self._start()

    def pause(self) -> None:
        """Freeze the process with SIGSTOP: it keeps its connections and says nothing.

        Returns when the process has stopped.
        """
        self._require_owner()
        with self._lock:
            os.kill(self.pid, signal.SIGSTOP)
            if hasattr(os, "waitid"):
                os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused process go on; it first answers what arrived meanwhile."""
        self._require_owner()
        with self._lock:
            os.kill(self.pid, signal.SIGCONT)

    def _new_port(self) -> int:
        return free_port()

    def _require_owner(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError(f"{self!r} belongs to process {self._owner}")

    def _start(self) -> None:
        """Run a process on the port, or on a free one if there is no port yet."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for attempt in range(_PORT_ATTEMPTS):
            port = self._new_port() if self._port is None else self._port
            try:
                self._spawn(port)
            except _PortTakenError:
                self._end(signal.SIGKILL)
                if attempt == _PORT_ATTEMPTS - 1:
                    raise
                if self._port is not None:
                    time.sleep(_POLL_S * attempt)  # the old socket may be closing
            except BaseException:
                self._end(signal.SIGKILL)
                raise
            else:
                self._port = port
                return

    def _spawn(self, port: int) -> None:
        with (self.directory / _LOG_NAME).open("wb") as log:
            # A session of its own: Ctrl-C in the terminal must reach us first, while
            # the server is still there for an orderly end.
            self._process = _run(
                [str(self._program), *self._options(port), *self._args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        owned = str(self.directory) if self._owns_directory else ""
        self._guard = _run(
            ["/bin/sh", "-c", _GUARD, "guard", str(self._process.pid), owned],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._await_answer(self._process, port)

    def _await_answer(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._is_answer_of(process.pid, _ask(port, self._question)):
            if process.poll() is not None:
                log = self._log_tail()
                error = _PortTakenError if _PORT_TAKEN in log else ServerStartError
                raise error(
                    f"{self._program} ended with status {process.returncode} "
                    f"on port {port}:\n{log}"
                )
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"{self._program} did not answer on port {port} within "
                    f"{_START_TIMEOUT_S:.0f} s:\n{self._log_tail()}"
                )
            time.sleep(_POLL_S)

    def _log_tail(self) -> str:
        log = (self.directory / _LOG_NAME).read_text("utf-8", errors="replace")
        return log[-_LOG_TAIL:].strip()

    def _end(self, how: signal.Signals) -> None:
        """End and reap both processes; the guard first: the pid may be reused later."""
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # a paused process heeds SIGKILL alone
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


ServerT = TypeVar("ServerT", bound=PrivateServer)


def started(server: ServerT) -> ServerT:
    """Start a new server, to end with this process; leave nothing if that fails."""
    try:
        server.restart()
    except BaseException:
        server.stop()
        raise
    atexit.register(server.stop)
    return server


def _run(command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
    """Start a program of ours; some sandboxes fail an exec at random, so try again."""
    for _ in range(_EXEC_ATTEMPTS - 1):
        try:
            return subprocess.Popen(  # noqa: S603
                command, start_new_session=True, **streams
            )
        except OSError as exc:
            if exc.errno != errno.EFAULT:
                raise
    return subprocess.Popen(command, start_new_session=True, **streams)  # noqa: S603


def _ask(port: int, request: bytes) -> bytes:
    """Return what the listener on the port answers before it hangs up."""
    replies = b""
    with contextlib.suppress(OSError):
        address = (LOOPBACK, port)
        with socket.create_connection(address, _ANSWER_TIMEOUT_S) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)  # to be hung up on
            while received := connection.recv(65_536):
                replies += received
    return replies
