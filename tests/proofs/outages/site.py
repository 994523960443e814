"""A server of the test's own, reached through a proxy, and the ways it can fail."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import redis

from cachebridge.testing import FaultProxy, ServerStartError, redis_server
from tests.rig import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

CONNECT_TIMEOUT_S: Final = 0.4
SOCKET_TIMEOUT_S: Final = 0.4
TOO_LATE_S: Final = 1.0
PAUSE_S: Final = 9.0
"""CLIENT PAUSE holds CLIENT UNPAUSE back, too: it has to be over by itself."""
AWHILE_S: Final = 600.0
"""A heartbeat closes the breaker, no trial."""
FILLERS: Final = 30_000
USER: Final = "app on >pw ~* &* +@all"

AWAY: Final = "away"
"""The server cannot be used at all."""
REFUSES: Final = "refuses"
"""The server answers, and refuses some of what is asked."""
BUS_AWAY: Final = "bus away"
"""The store works, the bus beside it cannot be used."""
CUT_WITHIN: Final = "cut within a reply"
PASSES: Final = "passes"
"""What breaks can be repaired within the call."""


class Site:
    """The server, the way to it that faults strike, and an administrator beside it."""

    def __init__(self) -> None:
        self._ending = ExitStack()
        slow_loading = ("--loading-process-events-interval-bytes", "1024")
        user = ("--user", *USER.split())
        debug = ("--enable-debug-command", "yes")
        try:
            server = redis_server(args=(*slow_loading, *user, *debug))
        except ServerStartError:  # before Redis 7 it is always allowed
            server = redis_server(args=(*slow_loading, *user))
        self.server = self._ending.enter_context(server)
        self.proxy = self._ending.enter_context(FaultProxy(server.host, server.port))
        self._clients: dict[int, redis.Redis] = {}
        self.admin = self.client(0)

    def client(self, db: int) -> redis.Redis:
        """Return a client that goes straight to the server."""
        client = redis.Redis(port=self.server.port, db=db, socket_timeout=30)
        return self._ending.enter_context(client)

    def location(self, db: int, *, direct: bool = False) -> str:
        """Return the address of a database, by way of the proxy or past it."""
        port = self.server.port if direct else self.proxy.port
        return f"redis://app:pw@127.0.0.1:{port}/{db}"

    def options(self, _db: int, *, direct: bool = False) -> dict[str, Any]:
        """Return what a cache has to be told besides."""
        del direct
        return {"breaker_retry": AWHILE_S}

    def overwrite(self, db: int, key: str, value: Any) -> None:
        """Write past the library."""
        self._client_of(db).set(key, pickle.dumps(value))

    def truth(self, db: int, full_key: str, _key: str, _peer: Any) -> Any:
        """Return what the server has."""
        raw = self._client_of(db).get(full_key)
        if raw is None:
            return None
        return int(raw) if raw.isdigit() else pickle.loads(raw)

    def _client_of(self, db: int) -> redis.Redis:
        if db not in self._clients:
            self._clients[db] = self.client(db)
        return self._clients[db]

    def close(self) -> None:
        """End everything."""
        self._ending.close()


Strike = "Callable[[], object] | None"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: ``works`` is a context, which gives what strikes before each call."""

    name: str
    kind: str
    works: Callable[[Site], AbstractContextManager[Strike]]


@contextmanager
def _refused(site: Site) -> Iterator[None]:
    site.proxy.refuse()
    site.proxy.cut()
    yield
    site.proxy.restore()


@contextmanager
def _silent(site: Site) -> Iterator[None]:
    site.proxy.silence()
    yield
    site.proxy.restore()


@contextmanager
def _too_late(site: Site) -> Iterator[None]:
    site.proxy.delay(TOO_LATE_S)
    yield
    site.proxy.restore()


@contextmanager
def _killed(site: Site) -> Iterator[None]:
    site.server.kill()
    yield
    site.server.restart()


@contextmanager
def _stopped(site: Site) -> Iterator[None]:
    site.server.pause()
    yield
    site.server.resume()


@contextmanager
def _paused(site: Site) -> Iterator[None]:
    ends = time.monotonic() + PAUSE_S
    site.admin.execute_command("CLIENT", "PAUSE", int(PAUSE_S * 1000), "ALL")
    yield
    assert time.monotonic() < ends, "this machine is too slow for CLIENT PAUSE"
    site.admin.ping()


@contextmanager
def _loading(site: Site) -> Iterator[None]:
    admin = site.admin
    site.client(9).mset({f"filler{number}": "x" * 100 for number in range(FILLERS)})
    admin.config_set("key-load-delay", 800)  # microseconds
    with ThreadPoolExecutor(1) as reloading:
        reloaded = reloading.submit(admin.execute_command, "DEBUG", "RELOAD")
        watcher = site.client(8)
        while not _is_loading(watcher):
            assert not reloaded.done(), "loading was over too soon"
        yield
        assert not reloaded.done(), "loading was over too soon"
        watcher.execute_command("CONFIG", "SET", "key-load-delay", "0")
        assert reloaded.result()


def _is_loading(client: redis.Redis) -> bool:
    try:
        client.get("k")
    except redis.BusyLoadingError:
        return True
    return False


@contextmanager
def _locked_out(site: Site) -> Iterator[None]:
    site.admin.execute_command("ACL", "SETUSER", "app", "resetpass", ">other")
    site.admin.execute_command("CLIENT", "KILL", "USER", "app")
    yield
    site.admin.execute_command("ACL", "SETUSER", "app", "resetpass", ">pw")


@contextmanager
def _full(site: Site) -> Iterator[None]:
    site.admin.config_set("maxmemory-policy", "noeviction")
    site.admin.config_set("maxmemory", "1")
    yield
    site.admin.config_set("maxmemory", "0")


@contextmanager
def _replica(site: Site) -> Iterator[None]:
    site.admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    yield
    site.admin.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def _no_channel(site: Site) -> Iterator[None]:
    site.admin.execute_command("ACL", "SETUSER", "app", "resetchannels")
    yield
    site.admin.execute_command("ACL", "SETUSER", "app", "&*")


def _each_time(strike: Callable[[Site], object]) -> Callable[..., object]:
    """Make the context of a fault that is over at once, and comes before each call."""

    @contextmanager
    def works(site: Site) -> Iterator[Callable[[], object]]:
        yield lambda: strike(site)
        site.proxy.restore()

    return works


def _kill_clients(site: Site) -> None:
    """Return when the clients can tell: until then it is a cut within a reply."""
    killed = set(site.proxy._links)
    for kind in ("normal", "pubsub"):
        site.admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    eventually(lambda: killed.isdisjoint(tuple(site.proxy._links)))
    time.sleep(0.05)  # the end that the proxy has sent still has to arrive


FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault("connections refused", AWAY, _refused),
        Fault("silence", AWAY, _silent),
        Fault("answers after the timeout", AWAY, _too_late),
        Fault("`kill -9`", AWAY, _killed),
        Fault("`SIGSTOP`", AWAY, _stopped),
        Fault("`CLIENT PAUSE`", AWAY, _paused),
        Fault("`LOADING`", AWAY, _loading),
        Fault("wrong password", AWAY, _locked_out),
        Fault("full (`OOM`)", REFUSES, _full),
        Fault("`READONLY`", REFUSES, _replica),
        Fault("no right to the channel", REFUSES, _no_channel),
        Fault("connections cut", PASSES, _each_time(lambda site: site.proxy.cut())),
        Fault("half-closed", PASSES, _each_time(lambda site: site.proxy.half_close())),
        Fault(
            CUT_WITHIN,
            PASSES,
            _each_time(lambda site: site.proxy.truncate(3)),
        ),
        Fault("`CLIENT KILL`", PASSES, _each_time(_kill_clients)),
        Fault(
            "`SCRIPT FLUSH`", PASSES, _each_time(lambda site: site.admin.script_flush())
        ),
    )
}
