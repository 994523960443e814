"""A private master with replicas and sentinels, to be failed over in tests."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from cachebridge.testing.asking import client_of, until
from cachebridge.testing.processes import started
from cachebridge.testing.servers import RedisServer, find_redis_server, redis_server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from redis import Redis

__all__ = ["SentinelGroup", "SentinelServer", "sentinel_group"]

_LOCAL: Final = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "10")


class SentinelServer(RedisServer):
    """A running sentinel of our own, made by sentinel_group()."""

    def __init__(
        self, program: Path, settings: Sequence[str], port: int | None = None
    ) -> None:
        """``settings`` are lines of its configuration."""
        super().__init__(program, port, ())
        self._settings = tuple(settings)

    @property
    def url(self) -> str:
        """The address, as redis-py takes it."""
        return f"redis://{self.host}:{self.port}"

    def _options(self, port: int) -> list[str]:
        # A sentinel keeps in this file what it learns, also over restart().
        path = self.directory / "sentinel.conf"
        if not path.exists():
            first = (f"bind {self.host}", f"dir {self.directory}")
            path.write_text("\n".join((*first, *self._settings, "")), "utf-8")
        return [str(path), "--sentinel", "--port", str(port)]


class SentinelGroup:
    """A master, its replicas and their sentinels, made by sentinel_group()."""

    def __init__(
        self,
        servers: Sequence[RedisServer],
        sentinels: Sequence[SentinelServer],
        name: str,
        running: ExitStack,
    ) -> None:
        self.servers = tuple(servers)
        """All of them; which one is the master changes."""
        self.sentinels = tuple(sentinels)
        self.name = name
        self._running = running

    @property
    def url(self) -> str:
        """The address of database 0, as LOCATION wants it."""
        hosts = ",".join(f"{each.host}:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.name}/0"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all servers. Stopping twice is fine."""
        self._running.close()

    def master(self) -> RedisServer:
        """Ask the sentinels which server is the master; blocks until one names it.

        Raises RuntimeError if none does.
        """
        for sentinel in self.sentinels:
            with suppress(Exception), client_of(sentinel) as client:
                host, port = client.execute_command(
                    "SENTINEL GET-MASTER-ADDR-BY-NAME", self.name
                )
                del host
                return next(each for each in self.servers if each.port == int(port))
        raise RuntimeError("no sentinel answers")

    def failover(self) -> RedisServer:
        """Have the first sentinel that runs promote a replica; return the new master.

        The old one runs on, and stays writable for seconds: sentinels turn it into a
        replica later.  Raises TimeoutError.
        """
        old = self.master()
        sentinel = next(each for each in self.sentinels if each.is_running)
        with client_of(sentinel) as client:
            until(lambda: client.execute_command("SENTINEL FAILOVER", self.name))
        return self.promoted(old)

    def promoted(self, old: RedisServer) -> RedisServer:
        """Wait until another server than ``old`` is the master; return it."""

        def new() -> RedisServer | None:
            found = self.master()
            return None if found is old else found

        return until(new)

    def wait_until_ready(self) -> None:
        """Wait until every sentinel knows all servers; raises TimeoutError."""
        for sentinel in self.sentinels:
            with client_of(sentinel) as client:
                until(partial(self._is_known_to, client))

    def _is_known_to(self, client: Redis) -> bool:
        state = client.execute_command("SENTINEL MASTER", self.name)
        others = len(self.sentinels) - 1
        if state["num-slaves"] < len(self.servers) - 1:
            return False
        if state["num-other-sentinels"] < others or state["flags"] != "master":
            return False
        replicas = client.execute_command("SENTINEL SLAVES", self.name)
        return all(
            each["flags"] == "slave" and each["master-link-status"] == "ok"
            for each in replicas
        )


def sentinel_group(
    *,
    replicas: int = 1,
    sentinels: int = 3,
    name: str = "mymaster",
    down_after_ms: int = 1000,
    args: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> SentinelGroup:
    """Start a master with replicas and sentinels; as a context manager they stop.

    ``down_after_ms`` is how long a server must be silent to be replaced.  ``args`` are
    further arguments of each server, ``settings`` further lines of the sentinels'
    configuration.  Returns when all know each other, which takes three seconds, or one
    if there is a single sentinel.  Raises ServerNotFoundError, ServerStartError and
    TimeoutError.
    """
    with ExitStack() as running:
        master = running.enter_context(redis_server(args=(*_LOCAL, *args)))
        of_master = ("--replicaof", f"{master.host} {master.port}")
        servers = [master]
        servers += [
            running.enter_context(redis_server(args=(*_LOCAL, *args, *of_master)))
            for _ in range(replicas)
        ]
        lines = (
            f"sentinel monitor {name} {master.host} {master.port} {sentinels // 2 + 1}",
            f"sentinel down-after-milliseconds {name} {down_after_ms}",
            f"sentinel failover-timeout {name} 10000",
            *settings,
        )
        program = find_redis_server()
        watching = [
            running.enter_context(started(SentinelServer(program, lines)))
            for _ in range(sentinels)
        ]
        group = SentinelGroup(servers, watching, name, running.pop_all())
    try:
        group.wait_until_ready()
    except BaseException:
        group.stop()
        raise
    return group
