"""A Redis Cluster as the store: all its masters fail at once.

There is a cluster for each cache under test, since a cluster has one database, and one
of a single master for each cache whose L1 is switched off.
"""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import redis

from cachebridge.testing import redis_cluster
from tests.proofs.outages.memcached_site import Each
from tests.proofs.outages.site import AWHILE_S, FAULTS

if TYPE_CHECKING:
    from cachebridge.testing.clusters import RedisCluster

MASTERS: Final = (3, 3, 1, 1)
"""Of the cluster that stands for each database."""


class ClusterSite:
    """Clusters of the test's own; see ``Site``."""

    def __init__(self) -> None:
        self._ending = ExitStack()
        self._clients: dict[int, Any] = {}

        def start(masters: int) -> RedisCluster:
            made: RedisCluster = redis_cluster(masters=masters)
            return made

        with ThreadPoolExecutor(len(MASTERS)) as pool:
            self._clusters = [
                self._ending.enter_context(made) for made in pool.map(start, MASTERS)
            ]
        self.server = Each(node for each in self._clusters for node in each.masters())

    def location(self, db: int, *, direct: bool = False) -> str:
        """Return the address of the cluster that stands for a database.

        Another one for peers: they are not to share an engine with the cache.
        """
        url = self._clusters[db].url
        return url.replace("127.0.0.1", "localhost") if direct else url

    def options(self, _db: int, *, direct: bool = False) -> dict[str, Any]:
        """Return what a cache has to be told besides."""
        del direct
        return {"breaker_retry": AWHILE_S}

    def overwrite(self, db: int, key: str, value: Any) -> None:
        """Write past the library."""
        self._client_of(db).set(key, pickle.dumps(value))

    def truth(self, db: int, full_key: str, _key: str, _peer: Any) -> Any:
        """Return what the master of the key has."""
        raw = self._client_of(db).get(full_key)
        if raw is None:
            return None
        return int(raw) if raw.isdigit() else pickle.loads(raw)

    def _client_of(self, db: int) -> Any:
        if db not in self._clients:
            node = self._clusters[db].masters()[0]
            client = redis.RedisCluster(host=node.host, port=node.port)
            self._clients[db] = client
            self._ending.callback(client.close)
        return self._clients[db]

    def close(self) -> None:
        """End everything."""
        self._ending.close()


CLUSTER_FAULTS: Final = {name: FAULTS[name] for name in ("`kill -9`", "`SIGSTOP`")}
