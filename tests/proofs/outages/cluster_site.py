"""A Redis Cluster as the store: all its masters fail at once.

There is a cluster for each cache under test, since a cluster has one database, and one
of a single master for each cache whose L1 is switched off.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import redis

from cachebridge.testing import redis_cluster
from tests.proofs.outages.memcached_site import Each
from tests.proofs.outages.site import FAULTS, Site

if TYPE_CHECKING:
    from cachebridge.testing.clusters import RedisCluster

MASTERS: Final = (3, 3, 1, 1)
"""Of the cluster that stands for each database."""


class ClusterSite(Site):
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

    def _client_of(self, db: int) -> Any:
        if db not in self._clients:
            node = self._clusters[db].masters()[0]
            client = redis.RedisCluster(host=node.host, port=node.port)
            self._clients[db] = client
            self._ending.callback(client.close)
        return self._clients[db]


CLUSTER_FAULTS: Final = {name: FAULTS[name] for name in ("`kill -9`", "`SIGSTOP`")}
