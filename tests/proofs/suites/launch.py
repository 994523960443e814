"""Runs the tests of a suite in a child process, on servers of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pymemcache
import redis

from cachebridge.testing import (
    MemcachedServer,
    RedisCluster,
    memcached_server,
    redis_cluster,
    redis_server,
)
from tests.proofs.suites.inside.plan import VARIABLE, Plan
from tests.proofs.suites.sources import HERE, pinned, unpacked

if TYPE_CHECKING:
    from tests.proofs.suites.catalog import Suite

CACHEBRIDGE = "cachebridge.django_backend.CacheBridge"
LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
REPOSITORY = HERE.parents[2]
STORES = 12
"""Memcached has no databases, and a cluster one: one for each LOCATION of theirs."""


class SuiteError(RuntimeError):
    """The tests of a suite could not be run to their end."""


@dataclass(frozen=True, slots=True)
class Report:
    """How each test ended, and proof of what served it."""

    outcomes: dict[str, tuple[str, str]]
    operations: dict[str, int]
    server_commands: int
    facts: dict[str, int]


def launched(
    suite: Suite, backend: str = CACHEBRIDGE, labels: tuple[str, ...] = ()
) -> Report:
    """Run a suite, or some tests of it, against a backend and return what came of it.

    A remote-writing suite forwards to another process only what another process can
    see, so never with LocMemCache.
    """
    tests = unpacked(suite.source) / suite.folder
    imports = [unpacked(pinned(name)) for name in suite.imports]
    with ExitStack() as stack:
        server = stack.enter_context(redis_server())
        memcacheds = [
            stack.enter_context(memcached_server(args=("-t", "1")))
            for _ in range(STORES if suite.on_memcached else 0)
        ]
        clusters = _clusters(stack) if suite.on_clusters else []
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plan = Plan(
            settings=suite.settings,
            labels=list(labels or suite.labels),
            backend=backend,
            location=server.url.rpartition("/")[0],
            report=str(scratch / "report.json"),
            timeout_s=suite.timeout_s,
            remote_writes=suite.remote_writes and backend != LOCMEM,
            watches_l1=suite.watches_l1 and backend == CACHEBRIDGE,
            by_tasks=suite.by_tasks and backend != LOCMEM,
            stores=tuple(each.url for each in (*memcacheds, *clusters)),
            has_bus=suite.has_bus,
        )
        (scratch / "plan.json").write_text(json.dumps(asdict(plan)))
        path = [str(folder) for folder in (tests, HERE, *imports, REPOSITORY)]
        _run(
            [sys.executable, "-P", "-m", "inside.run"],
            tests,
            {VARIABLE: str(scratch / "plan.json"), "PYTHONPATH": os.pathsep.join(path)},
            suite,
        )
        found = json.loads(Path(plan.report).read_text())
        served = sum(map(memcached_commands, memcacheds))
        for node in (node for cluster in clusters for node in cluster.nodes):
            served += commands(node.url)
        return Report(**found, server_commands=served or commands(server.url))


def _clusters(stack: ExitStack) -> list[RedisCluster]:
    """Start a cluster for each LOCATION, all at once: each takes some seconds."""
    with ThreadPoolExecutor(STORES) as pool:
        starting = [pool.submit(redis_cluster, masters=2) for _ in range(STORES)]
        for each in starting:
            stack.callback(lambda each=each: each.exception() or each.result().stop())
        return [each.result() for each in starting]


def _run(
    command: list[str], folder: Path, variables: dict[str, str], suite: Suite
) -> None:
    # Each suite has its own settings, whatever the environment says of ours.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DJANGO_SETTINGS_MODULE", "PYTHONWARNINGS"}
    }
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=inherited | variables,
            capture_output=True,
            text=True,
            timeout=suite.timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        said = (exc.stderr or b"").decode(errors="replace")
        raise SuiteError(
            f"{suite.name}: no end after {suite.timeout_s} s\n{said}"
        ) from exc
    if done.returncode != 0:
        raise SuiteError(f"{suite.name}: the runner broke down\n{done.stderr}")


def commands(url: str) -> int:
    """Return how many data commands the server has carried out."""
    with redis.Redis.from_url(url) as client:
        stats = client.info("commandstats")
    idle = {"hello", "client", "ping", "info", "select", "command", "config"}
    return sum(
        figures["calls"]
        for name, figures in stats.items()
        if name.removeprefix("cmdstat_").partition("|")[0] not in idle
    )


def memcached_commands(server: MemcachedServer) -> int:
    """Return how many commands with keys a Memcached has carried out."""
    client = pymemcache.Client((server.host, server.port), timeout=5)
    try:
        stats = client.stats()
    finally:
        client.close()
    return sum(stats[name] for name in (b"cmd_get", b"cmd_set", b"cmd_touch"))
