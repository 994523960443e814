"""The demo: ``python -m example_project.demo``.

Starts a private Redis, the shop on cachebridge and the same shop on Django's
RedisCache, drives both over HTTP, then the shop over a private Redis Cluster; prints
what it measured and stops all it started.
Needs no root and touches nothing outside of ``example_project/var/`` and the temporary
directory. Status 0: every promise held; 1: one did not, and the last lines say which.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import django
from redis import Redis

from cachebridge.testing import (
    ServerNotFoundError,
    ServerStartError,
    memcached_server,
    redis_cluster,
    redis_server,
)
from example_project import awaited, buyers, client, scenes, sell, stack, together
from example_project.outage import KEEPS_DATA, lose_master, outage
from example_project.stack import ServiceError
from example_project.telling import Telling, sum_up

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from example_project.outage import Outage
    from example_project.scenes import ColdKey, PriceChanges, Throughput
    from example_project.stack import Service

OURS: Final = "cachebridge"
THEIRS: Final = "RedisCache"
BACKENDS: Final = {OURS: stack.CACHEBRIDGE, THEIRS: stack.REDIS_CACHE}
WORKERS: Final = 2
THREADS: Final = 8
CROWD: Final = 64
STOCK: Final = 1_000
DEADLINE_MS: Final = 1500
"""SOCKET_CONNECT_TIMEOUT + SOCKET_TIMEOUT: the longest wait for Redis."""
BUSY: Final = 3
"""What a machine busy with other work adds, in slowest requests with Redis there."""
LAST: Final = 10
FIGURES: Final = stack.VAR_DIR / "demo.txt"
"""All that the scenes print; the screen gets two lines of each."""
FAILURES: Final = (
    *(ServerNotFoundError, ServerStartError, ServiceError),
    *client.FAILURES,
)


def main() -> int:
    """Run all scenes and report the promises that did not hold."""
    parser = argparse.ArgumentParser(prog="python -m example_project.demo")
    parser.add_argument("--all", action="store_true", help="print every figure")
    in_full = parser.parse_args().all
    stack.stop_on_signals()
    started = time.monotonic()
    try:
        broken = run(in_full=in_full)
    except KeyboardInterrupt:
        print("\nInterrupted. Everything is stopped again.")
        return 130
    except FAILURES as exc:
        print(f"FAILED: {type(exc).__name__}: {exc}\nThe logs are in {stack.VAR_DIR}.")
        return 1
    took_s = time.monotonic() - started
    for promise in broken:
        print(f"BROKEN: {promise}")
    if not in_full:
        print(f"\nAll figures: {FIGURES}")
    if not broken:
        print(f"Every promise held. Everything is stopped again, after {took_s:.0f} s.")
    return 1 if broken else 0


def run(*, in_full: bool) -> list[str]:
    """Build the stage, play the scenes, strike the stage."""
    tell = Telling(FIGURES, of=LAST, in_full=in_full).scene
    with ExitStack() as stage:
        redis = stage.enter_context(redis_server())
        print(headline(redis.url))
        print(f"The shop has {stack.prepare_database()}.\n")
        shops = open_shops(stage, redis.url, "", workers=WORKERS, threads=THREADS)
        broken = tell(
            1,
            "the same pages from both shops, and (2) by which level",
            lambda: show_throughput(
                scenes.throughput(shops, redis.url, stack.STAFF_TOKEN)
            ),
        )
        broken += tell(
            3,
            "price changes in one worker, seen in the other",
            lambda: show_price_changes(
                scenes.price_changes(shops[OURS], stack.STAFF_TOKEN)
            ),
        )
        crowded = open_shops(stage, redis.url, "-crowd", workers=1, threads=CROWD)
        broken += tell(
            4,
            f"{CROWD} threads ask for one cold key",
            lambda: show_cold_key(
                {name: scenes.cold_key(shop) for name, shop in crowded.items()}
            ),
        )
        services = {
            buyers.DJANGO: shops[OURS],
            buyers.FLASK: stage.enter_context(together.price_service(redis.url)),
            buyers.TASKS: stage.enter_context(awaited.async_service(redis.url)),
        }
        for service in services.values():
            service.await_ready("/stats/")
        broken += tell(
            5,
            "price changes between Django and Flask",
            lambda: together.play(shops[OURS], services[buyers.FLASK], number=5),
        )
        broken += tell(
            6,
            "between plain and asynchronous views",
            lambda: awaited.play(shops[OURS], services[buyers.TASKS], number=6),
        )
        broken += tell(
            7, "values in Memcached", lambda: over_memcached(stage, redis.url)
        )
        broken += tell(
            8,
            f"a flash sale of {STOCK:,} pieces",
            lambda: sell.play(services, redis.url, stock=STOCK, title="8. "),
        )
    with ExitStack() as stage:
        redis = stage.enter_context(redis_server(args=KEEPS_DATA))
        shop = open_shop(stage, redis.url, "-outage")
        broken += tell(
            9,
            "Redis is killed under load, and comes back",
            lambda: show_outage(outage(redis, shop, stack.STAFF_TOKEN)),
        )
    with ExitStack() as stage:
        cluster = stage.enter_context(redis_cluster(masters=3, replicas=1))
        shop = open_shop(stage, cluster.url, "-cluster")
        broken += tell(
            LAST,
            "a master of a Redis Cluster is killed under load",
            lambda: show_lost_master(lose_master(cluster, shop, stack.STAFF_TOKEN)),
        )
    return broken


def open_shop(stage: ExitStack, url: str, suffix: str) -> Service:
    """Start the shop on cachebridge alone, over one Redis or a cluster."""
    shop = stack.shop(f"{OURS}{suffix}", stack.CACHEBRIDGE, url, threads=THREADS)
    stage.enter_context(shop).await_ready()
    return shop


def open_shops(
    stage: ExitStack,
    redis_url: str,
    suffix: str,
    *,
    workers: int,
    threads: int,
) -> dict[str, Service]:
    """Start the shop on each backend, with a database of its own in the one Redis."""
    shops = {}
    for number, (name, backend) in enumerate(BACKENDS.items()):
        url = stack.redis_database(redis_url, number)
        shop = stack.shop(
            f"{name}{suffix}", backend, url, workers=workers, threads=threads
        )
        shops[name] = stage.enter_context(shop)
    for shop in shops.values():
        shop.await_ready()
    return shops


def headline(redis_url: str) -> str:
    """Print the machine and the versions that all of this runs on."""
    with Redis.from_url(redis_url) as redis:
        version = redis.info("server")["redis_version"]
    return (
        f"cachebridge demo. Python {platform.python_version()}, "
        f"Django {django.__version__}, a private Redis {version}, {os.cpu_count()} "
        f"CPUs.\nEach shop has {WORKERS} gunicorn workers with {THREADS} threads."
    )


def show_throughput(results: Mapping[str, Throughput]) -> list[str]:
    """Print requests per second and look-ups. Promise: L1 answers something."""
    ours, theirs = results[OURS], results[THEIRS]
    pairs = zip(ours.rates, theirs.rates, strict=True)
    ratio = statistics.median(our_rate / their_rate for our_rate, their_rate in pairs)
    print(
        f"1. The same pages from both shops: {len(ours.rates)} short rounds in turns, "
        "a price written in each"
    )
    row("", OURS, THEIRS, "ratio")
    row(
        "requests/s, median of the rounds",
        f"{ours.median:,.0f}",
        f"{theirs.median:,.0f}",
        f"{ratio:.2f}",
    )
    row("requests/s, slowest - fastest", spread(ours.rates), spread(theirs.rates))
    row(
        "worker CPU per request",
        f"{ours.cpu_ms_per_request:.2f} ms",
        f"{theirs.cpu_ms_per_request:.2f} ms",
        f"{ours.cpu_ms_per_request / theirs.cpu_ms_per_request:.2f}",
    )
    row(
        "Redis commands per request",
        f"{ours.commands_per_request:.2f}",
        f"{theirs.commands_per_request:.2f}",
    )
    print()
    cpu = ours.cpu_ms_per_request / theirs.cpu_ms_per_request
    sum_up(
        f"{ratio:.2f}x the requests/s of {THEIRS} at {cpu:.2f}x the CPU; L1 answered "
        f"{ours.l1_ratio:.1%}"
    )
    if not ours.lookups:
        return ["the cache keeps no statistics: the L1 hit ratio is unknown"]

    print("2. Which level answered the look-ups of the cachebridge shop")
    row("", "L1", "L2", "computed", "L1 hit ratio")
    for share in ours.lookups:
        row(
            f"worker {share.pid}",
            *(f"{count:,}" for count in (share.l1, share.l2, share.computed)),
            f"{share.l1_ratio:.2%}",
        )
    row("all workers", "", "", "", f"{ours.l1_ratio:.2%}")
    print()
    return [] if ours.l1_ratio > 0 else ["L1 answered no look-up at all"]


def over_memcached(stage: ExitStack, redis_url: str) -> list[str]:
    """Play the price changes over Memcached, if there is one.  The same promises."""
    title = "7. Over Memcached, messages by Redis: "
    try:
        memcached = stage.enter_context(memcached_server())
    except ServerNotFoundError:
        print(f"{title}left out, no memcached is installed.\n")
        sum_up("left out, no memcached is installed")
        return []
    shop = stack.shop(
        f"{OURS}-memcached",
        stack.CACHEBRIDGE,
        stack.redis_database(redis_url, 5),
        memcached_url=memcached.url,
    )
    stage.enter_context(shop).await_ready()
    seen = scenes.price_changes(shop, stack.STAFF_TOKEN)
    return show_price_changes(seen, title)


def show_price_changes(seen: PriceChanges, title: str = "3. ") -> list[str]:
    """Print the delays. Promises: no old price after the limit, no old page."""
    print(
        f"{title}{len(seen.delays_ms)} price changes in worker {seen.writer}, "
        f"until worker {seen.reader} serves the new price"
    )
    row("", "median", "longest")
    if seen.seen_ms:
        row(
            "from the writer's answer",
            f"{statistics.median(seen.seen_ms):.1f} ms",
            f"{max(seen.seen_ms):.1f} ms",
        )
        sum_up(
            f"{len(seen.seen_ms)} changes: {statistics.median(seen.seen_ms):.1f} ms, "
            f"at most {max(seen.seen_ms):.1f} ms; one request: {seen.poll_ms:.1f} ms"
        )
    row("one request to the reader takes", f"{seen.poll_ms:.1f} ms")
    row("old prices, before the message", f"{seen.old_answers}")
    print()
    late = len(seen.delays_ms) - len(seen.seen_ms)
    broken = []
    if late:
        broken.append(
            f"{late} of {len(seen.delays_ms)} new prices were not served by the other "
            f"worker within {seen.limit_s:.0f} s"
        )
    if seen.old_in_writer:
        broken.append(f"the writer itself served {seen.old_in_writer} old prices")
    broken += [f"an old price on {page}" for page in seen.old_pages]
    return broken


def show_cold_key(results: Mapping[str, ColdKey]) -> list[str]:
    """Print how often one key was built. Promise: once."""
    ours = results[OURS]
    print(f"4. {CROWD} threads of one worker ask for one cold key, 250 ms to build")
    row("", *results)
    seen = results.values()
    row("times it was built", *(str(cold.builds) for cold in seen))
    row("all answered after", *(f"{cold.milliseconds:.0f} ms" for cold in seen))
    print()
    sum_up(
        f"built {ours.builds} time{'s' * (ours.builds != 1)}, all answered after "
        f"{ours.milliseconds:.0f} ms; {THEIRS}: {results[THEIRS].builds} times"
    )
    return [] if ours.builds == 1 else [f"one cold key was built {ours.builds} times"]


def show_outage(seen: Outage) -> list[str]:
    """Print how the shop did without Redis. Promises: no failure, nothing stale."""
    print("9. Redis is killed (-9) under load, and comes back with its old data")
    show_phases(seen)
    if seen.recovery_s is not None:
        row("L1 trusted again after", "", "", f"{seen.recovery_s:.1f} s")
    row("price changed meanwhile, seen old", "", "", f"{len(seen.stale)} times")
    print()
    broken = [f"without Redis {what}" for what in seen_broken(seen)]
    if not seen.during.l1_hits:
        broken.append("L1 answered nothing while Redis was away")
    return broken


def show_lost_master(seen: Outage) -> list[str]:
    """Print how the shop did without a master of its cluster. The same promises."""
    print("10. A master of a Redis Cluster is killed (-9) under load")
    show_phases(seen)
    row("its replica has its place after", "", f"{seen.during.seconds:.1f} s")
    if seen.recovery_s is not None:
        row("and L1 is trusted again after", "", "", f"{seen.recovery_s:.1f} s")
    row("price changed meanwhile, seen old", "", "", f"{len(seen.stale)} times")
    print()
    return [f"without a master {what}" for what in seen_broken(seen)]


def show_phases(seen: Outage) -> None:
    """Print what requests came to."""
    row("", "before", "without", "after")
    phases = (seen.before, seen.during, seen.after)
    row("requests/s", *(f"{phase.rate:,.0f}" for phase in phases))
    row("slowest request", *(f"{phase.slowest_ms:.0f} ms" for phase in phases))
    row("look-ups answered by L1", *(f"{phase.l1_hits:,}" for phase in phases))
    row("requests that failed", "", f"{len(seen.failed)}")
    trusted = "never" if seen.recovery_s is None else f"{seen.recovery_s:.1f} s"
    sum_up(
        f"{len(seen.failed)} requests failed, slowest {seen.during.slowest_ms:.0f} ms; "
        f"L1 trusted again after {trusted}; seen old: {len(seen.stale)}"
    )


def seen_broken(seen: Outage) -> list[str]:
    """Return the promises of every outage that did not hold."""
    broken = [f"a request failed: {what}" for what in seen.failed[:3]]
    broken += [f"a price was changed, and is outdated on {what}" for what in seen.stale]
    most_ms = DEADLINE_MS + BUSY * seen.before.slowest_ms
    if seen.during.slowest_ms > most_ms:
        broken.append(
            f"a request took {seen.during.slowest_ms:.0f} ms, more than the deadline "
            f"and what a busy machine adds, {most_ms:.0f} ms"
        )
    if seen.recovery_s is None:
        broken.append("the workers did not recover")
    return broken


def row(label: str, *cells: str) -> None:
    print(f"   {label:<33}" + "".join(f"{cell:>14}" for cell in cells))


def spread(rates: Sequence[float]) -> str:
    return f"{min(rates):,.0f} - {max(rates):,.0f}"


if __name__ == "__main__":
    sys.exit(main())
