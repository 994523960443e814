"""A site on django-redis moves over and back, with workers of both kinds running."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import redis
from django.core.cache import caches

from cachebridge.codec.compression import compressor_of
from tests.children import Child
from tests.unit.django.site_worker import (
    COMPRESSORS,
    INCREMENTS,
    SERIALIZERS,
    entry_of,
    name_of,
)

STAGES = [("old",), ("old", "new"), ("new",), ("new", "old"), ("old",)]
"""Which workers serve the site: before, during and after the move, and back."""


class Workers:
    """A process of each kind, which serve one cache at a time."""

    def __init__(self, url):
        self.url = url
        worker = [sys.executable, "-m", "tests.unit.django.site_worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.children = {
            kind: Child([*worker, kind, url], **pipes) for kind in ("old", "new")
        }

    def all_do(self, kinds, cache, job, argument=None):
        """Let workers of these kinds do a job at the same time; return the answers."""
        for kind in kinds:
            stdin = self.children[kind].stdin
            stdin.write(json.dumps([*cache, job, argument or kind]) + "\n")
            stdin.flush()
        answers = {kind: json.loads(self.children[kind].line()) for kind in kinds}
        for kind, answer in answers.items():
            assert "error" not in answer, (kind, job, answer)
            assert answer["ours"] == (kind == "new")
        return [answer["done"] for answer in answers.values()]

    def end(self):
        for child in self.children.values():
            child.end()


@pytest.fixture(scope="module")
def _running():
    running = []
    yield running
    for workers in running:
        workers.end()


@pytest.fixture
def workers(_running, redis_url):
    """Return the two processes: all tests have the same, in the first one's database.

    Their keys are apart by prefix.
    """
    if not _running:
        _running.append(Workers(redis_url))
    return _running[0]


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_over_and_back(workers, serializer, compressor):
    """No value is lost, none is read wrongly, and no worker raises."""
    cache = (serializer, compressor)
    workers.all_do(["old"], cache, "write", "all")
    for kinds in STAGES:

        def each(job, argument=None, kinds=kinds):
            return workers.all_do(kinds, cache, job, argument)

        assert each("read", "all") == [[]] * len(kinds), kinds
        each("write")  # a part of its own
        for writer in kinds:
            assert each("read", writer) == [[]] * len(kinds), (kinds, writer)
        assert each("write_and_read", "all") == [[]] * len(kinds), kinds
        workers.all_do(kinds[:1], cache, "zero", "hits")
        each("count", "hits")
        assert each("get", "hits") == [INCREMENTS * len(kinds)] * len(kinds), kinds
    assert workers.all_do(["new"], cache, "misses") == [0]
    with redis.Redis.from_url(workers.url) as client:
        for writer in ("old", "new"):
            raw = client.get(f"{name_of(serializer, compressor)}:1:{writer}:text")
            used = compressor_of(raw)
            expected = None if compressor in {"none", "identity"} else compressor
            assert (used and used.name) == expected


@pytest.mark.parametrize(
    ("serializer", "value"), [("json", "\ud800"), ("msgpack", {"a": {1: "b"}})]
)
def test_what_an_old_worker_could_not_read(set_caches, redis_url, serializer, value):
    """It is written so that it can, or refused like there."""
    kinds = ("old", "new")
    set_caches(
        **{kind: entry_of(kind, redis_url, serializer, "none") for kind in kinds}
    )
    new, old = caches["new"], caches["old"]
    if serializer == "json":
        new.set("k", value)
        assert old.get("k") == value
    else:
        with pytest.raises(TypeError):
            new.set("k", value)
        assert old.get("k") is None
