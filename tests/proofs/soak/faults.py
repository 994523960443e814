"""What else can happen to a server: it refuses, it locks out, it pauses, it loads."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.proofs.processes.faults import BUS_TRUST_S, SOCKET_TIMEOUT_S, ServerLane
from tests.proofs.processes.timeline import SERVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge.testing import RedisServer
    from tests.proofs.processes.timeline import Timeline

FILLERS: Final = 3_000
DELAY_US: Final = 200


class SoakServerLane(ServerLane):
    """The faults of the process test, and those of a server that answers."""

    def __init__(self, timeline: Timeline, seed: str, server: RedisServer) -> None:
        super().__init__(timeline, seed, server)
        self.faults |= {
            "pause_server_within_trust": self._pause_within_trust,
            "full": self._full,
            "read_only": self._read_only,
            "locked_out": self._locked_out,
            "client_pause": self._client_pause,
            "kill_clients": self._kill_clients,
            "script_flush": self._script_flush,
            "loading": self._loading,
        }
        self.twice = ("restart_server_empty",)

    def _pause_within_trust(self) -> bool:
        """Calls fail and the breaker opens, while the bus sees nothing of it."""
        seconds = self.random.uniform(SOCKET_TIMEOUT_S + 0.1, BUS_TRUST_S - 0.1)
        return self._pause("pause_server_within_trust", seconds)

    @contextmanager
    def _admin(self, name: str, *, holds_back: bool = False) -> Iterator[redis.Redis]:
        with (
            self.timeline.fault(name, SERVER, holds_back=holds_back),
            redis.Redis(
                port=self._server.port, socket_timeout=20, retry=Retry(NoBackoff(), 0)
            ) as client,
        ):
            client.ping()
            yield client

    def _while(self) -> None:
        time.sleep(self.random.uniform(0.2, 1.2))

    def _refusals(self, client: redis.Redis) -> int:
        """Count the errors that the server has answered with."""
        stats = client.info("stats")
        return int(stats["total_error_replies"])

    def _full(self) -> bool:
        with self._admin("full") as client:
            before = self._refusals(client)
            client.config_set("maxmemory", "1")
            self._while()
            client.config_set("maxmemory", "0")
            return self._refusals(client) > before

    def _read_only(self) -> bool:
        with self._admin("read_only") as client:
            before = self._refusals(client)
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            self._while()
            client.execute_command("REPLICAOF", "NO", "ONE")
            return self._refusals(client) > before

    def _locked_out(self) -> bool:
        with self._admin("locked_out") as client:
            before = self._refusals(client)
            client.config_set("requirepass", "secret")
            self._kill(client)
            self._while()
            client.config_set("requirepass", "")
            return self._refusals(client) > before

    def _client_pause(self) -> bool:
        with self._admin("client_pause", holds_back=True) as client:
            client.execute_command(
                "CLIENT", "PAUSE", self.random.randint(200, 1500), "ALL"
            )
            client.ping()  # held back for as long
        return True

    def _kill(self, client: redis.Redis) -> int:
        kinds = ("normal", "pubsub")
        return sum(client.client_kill_filter(_type=kind, skipme=True) for kind in kinds)

    def _kill_clients(self) -> bool:
        with self._admin("kill_clients") as client:
            return self._kill(client) > 0

    def _script_flush(self) -> bool:
        with self._admin("script_flush") as client:
            client.script_flush()
        return True

    def _loading(self) -> bool:
        with (
            self._admin("loading", holds_back=True) as client,
            redis.Redis(port=self._server.port, db=1) as other,
        ):
            other.mset({f"filler{number}": "x" * 100 for number in range(FILLERS)})
            before = self._refusals(client)
            client.config_set("key-load-delay", DELAY_US)
            client.execute_command("DEBUG", "RELOAD")
            client.config_set("key-load-delay", 0)
            # A server that is restarted empty must not find it.
            (self._server.directory / "dump.rdb").unlink()
            return self._refusals(client) > before
