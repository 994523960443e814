"""What Prometheus is told is what the counters say, in one process and in many."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading

import pytest
from django.core.cache import CacheHandler
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cachebridge import Cache, ConfigError
from cachebridge.contrib import prometheus
from cachebridge.stats import MOST_NAMES, Counters
from cachebridge.testing.ports import free_port
from tests.children import ROOT, Child
from tests.rig import (
    PATIENCE_S,
    PATIENT,
    PATIENT_SETTINGS,
    engine_of,
    eventually,
    lone_cache,
)

WORKERS = 4


@pytest.fixture
def exporter():
    """Return one with a registry of its own, which updates when it is told to."""
    made = prometheus.start(every_s=3600, registry=CollectorRegistry())
    yield made
    made.stop()
    del prometheus._exporters[made.registry]


def samples(text):
    """Return the numbers by name and labels of an exposition."""
    return {
        (each.name, *sorted(each.labels.items())): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def summed(text, name, **labels):
    """Return the sum of all samples of a name that have these labels."""
    return sum(
        value
        for (found, *pairs), value in samples(text).items()
        if found == name and labels.items() <= dict(pairs).items()
    )


def shown(exporter):
    exporter.update()
    return generate_latest(exporter.registry).decode()


def server_of(cache):
    return engine_of(cache).location.label


def test_counters_are_added_as_they_grow(exporter, redis_url):
    """An update adds what was counted since the last one, and no more."""
    with Cache(redis_url, **PATIENT) as cache:
        where = {"server": server_of(cache)}
        for times in (1, 2):
            cache.get("absent")
            for _ in range(2):
                text = shown(exporter)
                misses = summed(text, "cachebridge_reads_total", result="miss", **where)
                assert misses == times == cache.stats().misses
        cache.get_or_load("key", lambda: 1)
        text = shown(exporter)
        assert summed(text, "cachebridge_loads_total", event="run", **where) == 1
        assert summed(text, "cachebridge_processes", **where) == 1


def test_counters_that_began_anew_go_on(exporter, redis_url):
    """As after a fork: what was added before stays."""
    with Cache(redis_url, **PATIENT) as cache:
        where = {"server": server_of(cache), "result": "miss"}
        cache.get_many(["a", "b", "c"])
        before = summed(shown(exporter), "cachebridge_reads_total", **where)
        engine_of(cache).counters.reset()
        cache.get("a")
        after = summed(shown(exporter), "cachebridge_reads_total", **where)
        assert (before, after) == (3, 4)


def test_the_delay_of_invalidations_is_a_histogram(exporter, redis_url):
    """Its buckets, count and sum are those of the counters."""
    with Cache(redis_url, **PATIENT) as cache:
        counters, where = engine_of(cache).counters, {"server": server_of(cache)}
        for seconds in (0.0002, 0.003, 0.003, 7.0):
            counters.delayed(seconds)
        text = shown(exporter)
        name = prometheus.DELAY
        assert summed(text, f"{name}_count", **where) == 4
        assert summed(text, f"{name}_sum", **where) == pytest.approx(7.0062)
        assert summed(text, f"{name}_bucket", le="0.005", **where) == 3
        assert summed(text, f"{name}_bucket", le="+Inf", **where) == 4


def test_aliases_on_one_server_are_told_apart(exporter, redis_url):
    """Each alias has its reads under its name; ``stats()`` has the sum."""
    entry = {
        "BACKEND": "cachebridge.django_backend.CacheBridge",
        "LOCATION": redis_url,
        "OPTIONS": PATIENT_SETTINGS,
    }
    from django.test import override_settings

    with override_settings(
        CACHES={
            "default": {**entry, "KEY_PREFIX": "one"},
            "other": {**entry, "KEY_PREFIX": "two"},
        }
    ) as _:
        from django.core.cache import caches

        assert isinstance(caches, CacheHandler)
        for alias, times in (("default", 2), ("other", 5)):
            for _ in range(times):
                caches[alias].get("absent")
        text = shown(exporter)
        for alias, times in (("default", 2), ("other", 5)):
            where = {
                "cache": alias,
                "result": "miss",
                "server": server_of(caches[alias]),
            }
            assert summed(text, "cachebridge_reads_total", **where) == times
        assert caches["default"].stats().misses == 7


def test_a_cache_that_is_gone_has_no_entries(exporter, redis_url):
    """Its gauges are 0; its counts stay."""
    with Cache(redis_url, **PATIENT) as cache:
        where = {"server": server_of(cache)}
        cache.get("absent")
        assert summed(shown(exporter), "cachebridge_processes", **where) == 1
    del cache
    import gc

    gc.collect()
    text = shown(exporter)
    assert summed(text, "cachebridge_processes", **where) == 0
    assert summed(text, "cachebridge_reads_total", result="miss", **where) == 1


def test_a_thread_updates(redis_url):
    """Without a call; it ends with ``stop``, and a second start starts it again."""
    registry = CollectorRegistry()
    made = prometheus.start(every_s=0.1, registry=registry)
    try:
        assert prometheus.start(registry=registry) is made
        with Cache(redis_url, **PATIENT) as cache:
            where = {"server": server_of(cache), "result": "miss"}
            cache.get("absent")
            eventually(
                lambda: (
                    summed(
                        generate_latest(registry).decode(),
                        "cachebridge_reads_total",
                        **where,
                    )
                    == 1
                )
            )
        made.stop()
        thread = made._thread
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert prometheus.start(registry=registry) is made
        assert made._thread.is_alive()
    finally:
        made.stop()
        del prometheus._exporters[registry]


def test_too_short_a_time_is_refused():
    """The error says what is valid."""
    with pytest.raises(ConfigError, match=r"every_s is 0\.01.*0\.1 or more"):
        prometheus.start(every_s=0.01)


def test_nothing_happens_before_start():
    """Importing the module starts no thread and makes no metric."""
    code = (
        "import threading, prometheus_client as p; n = len(threading.enumerate());"
        "before = list(p.REGISTRY.collect());"
        "import cachebridge.contrib.prometheus;"
        "assert len(threading.enumerate()) == n;"
        "assert len(list(p.REGISTRY.collect())) == len(before)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def names_in_use():
    """Return all names that a scrape can hold."""
    registry = CollectorRegistry()
    prometheus.Exporter(registry, 3600.0)
    for family in registry.collect():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        for ending in endings.get(family.type, [""]):
            yield family.name + ending


@pytest.mark.parametrize("name", ["dashboard.json", "alerts.yml"])
def test_names_in_dashboard_and_alerts_exist(name):
    """And every family is in the dashboard."""
    text = (ROOT / "docs" / "prometheus" / name).read_text()
    mentioned = set(re.findall(r"\bcachebridge_[a-z0-9_]+", text))
    assert mentioned
    assert mentioned <= set(names_in_use())
    if name.endswith(".json"):
        families = {re.sub("_(total|bucket|sum|count)$", "", n) for n in mentioned}
        ours = {re.sub("_(total|bucket|sum|count)$", "", n) for n in names_in_use()}
        assert families == ours
        panels = json.loads(text)["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_metric_is_explained():
    """docs/metrics.md has each family, and no other."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = set(re.findall(r"^\| `(cachebridge_[a-z0-9_]+)`", page, re.MULTILINE))
    ours = {re.sub("_(bucket|sum|count)$", "", name) for name in names_in_use()}
    assert rows == ours


class Worker:
    """One worker process of gunicorn, by a connection that stays with it."""

    def __init__(self, port):
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=8 * PATIENCE_S
        )
        try:
            self.ask("truth")
        except BaseException:
            self.close()
            raise

    def ask(self, path):
        self._connection.request("GET", f"/{path}")
        response = self._connection.getresponse()
        self.pid = response.headers["X-Pid"]
        body = response.read().decode()
        assert response.status == 200, body
        return body

    def close(self):
        self._connection.close()


@pytest.fixture
def port(redis_url, tmp_path):
    """Start gunicorn with four workers that write metrics into one directory."""
    found = free_port()
    process = Child(
        [
            *(sys.executable, "-m", "gunicorn", "tests.unit.contrib.metrics_site:site"),
            *("--bind", f"127.0.0.1:{found}", "--workers", str(WORKERS)),
            *("--worker-class", "gthread", "--threads", "4", "--keep-alive", "60"),
            *("--preload", "--log-level", "warning", "--timeout", "600"),
        ],
        env={
            "CACHEBRIDGE_TEST_URL": redis_url,
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        },
    )
    yield found
    process.end()


def test_four_workers_have_the_sums_of_all(port):
    """Any of gunicorn's workers tells what all have counted, forked ones as well."""
    workers = {}

    def are_there():
        try:
            worker = Worker(port)
        except OSError:
            return False
        if worker.pid in workers:
            worker.close()
        else:
            workers[worker.pid] = worker
        return len(workers) == WORKERS

    eventually(are_there, "four workers answer")
    all_of_them = list(workers.values())
    threads = [
        threading.Thread(target=worker.ask, args=(f"read/{20 * number}",))
        for number, worker in enumerate(all_of_them, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    truth = [json.loads(worker.ask("update")) for worker in all_of_them]
    text = all_of_them[0].ask("metrics")
    assert sum(each["misses"] for each in truth) >= 80
    for result, name in (("l1", "l1_hits"), ("l2", "l2_hits"), ("miss", "misses")):
        told = summed(text, "cachebridge_reads_total", result=result)
        before = 3 if result == "miss" else 0  # by gunicorn's own process
        assert told == before + sum(each[name] for each in truth), name
    runs = summed(text, "cachebridge_loads_total", event="run")
    assert runs == sum(each["loads"] for each in truth)
    assert summed(text, "cachebridge_processes") >= WORKERS
    for worker in all_of_them:
        worker.close()
    assert str(os.getpid()) not in workers


def test_caches_are_named_by_their_prefix(redis_url):
    """Flask's and plain ones, as Django's are by their alias; without one by none."""
    from flask import Flask

    from cachebridge.flask_ext import Cache as FlaskCache

    app = Flask(__name__)
    settings = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": redis_url}
    flask = FlaskCache(app, config={**settings, "CACHE_KEY_PREFIX": "pages_"})
    shares = engine_of(lone_cache(redis_url, KEY_PREFIX="shop:")).counters.shares
    assert set(shares) == {"shop"}
    assert engine_of(lone_cache(redis_url)).counters.shares == {}
    with app.app_context():
        flask.set("k", 1)
        assert "pages" in flask.cache._binding.engine.counters.shares


def test_not_too_many_names():
    """Prefixes may be made for each tenant: the rest counts without a name."""
    counters = Counters()
    for number in range(2 * MOST_NAMES):
        counters.of(f"tenant{number}").misses += 1
    assert len(counters.shares) == MOST_NAMES
    assert counters.misses == MOST_NAMES
    assert counters.total().misses == 2 * MOST_NAMES
