"""Every fault, every public method, every adapter: what it answers, and how soon.

The observations run a few at a time beside the tests that judge them.
"""

from __future__ import annotations

import inspect

import pytest

from tests.proofs.outages.adapters import ADAPTERS, OVER_CLUSTER, PAIRS, PLAIN
from tests.proofs.outages.observe import SWITCH, observe_all
from tests.proofs.outages.site import AWAY, BUS_AWAY, REFUSES
from tests.proofs.outages.table import COMMAND, DOCUMENT, render

pytestmark = [
    pytest.mark.proof,
    pytest.mark.usefixtures("shared_server", "untraced"),
]

LOCAL = {"`stats`", "`health().ok`"}
"""What has no error to tell of."""
LATER = "`set`, `wait=False`"
"""What has returned before its value is sent: the loss is counted, not raised."""
HELD = {
    "`get`, in L1",
    "`cache[key]`, in L1",
    "`has_key`, in L1",
    "`in`, in L1",
    "`get_or_load`, in L1",
}


def _never_asks_the_store(adapter):
    """Return the rows that need no Memcached, since L1 is trusted without it."""
    return LOCAL if ADAPTERS[adapter].place.loses_trust else {*LOCAL, *HELD, SWITCH}


def _observed(request, on_error, always):
    """Begin all observations that the selected tests of this module need."""
    items = [item for item in request.session.items if item.module is request.module]
    wanted = {
        item.callspec.params["pair"]
        for item in items
        if hasattr(item, "callspec") and on_error in item.name
    }
    if any(item.name in always for item in items):
        wanted = set(PAIRS)
    return observe_all(on_error, wanted)


@pytest.fixture(scope="module")
def degrading(request):
    return _observed(
        request, "degrade", {"test_document", "test_a_cluster_answers_alike"}
    )


@pytest.fixture(scope="module")
def raising(request):
    return _observed(request, "raise", set())


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_degrade(pair, degrading):
    """In time, as if nothing had happened afterwards, and nothing stale anywhere."""
    seen = degrading[pair].result()
    assert not seen.slow
    assert not seen.stale
    assert not seen.unwell
    assert seen.recovered == seen.healthy
    assert bool(seen.opened) == (seen.kind == AWAY)
    errors = {row for row, answer in seen.failing.items() if answer == "`L2Error`"}
    assert errors <= {SWITCH}, "only switches tell of it"


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_raise(pair, raising):
    """L2Error from whatever cannot be done, in time; afterwards all is as before."""
    seen = raising[pair].result()
    assert not seen.slow
    assert not seen.stale
    assert not seen.unwell
    assert seen.recovered == seen.healthy
    failing = {row for row, answer in seen.failing.items() if answer == "`L2Error`"}
    silent = {LATER, *_never_asks_the_store(pair[1])}
    for row in set(seen.failing) - failing - silent:
        assert seen.kind != AWAY
        if "cut within" not in pair[0]:  # done, but who knows by which of two tries
            assert seen.failing[row] == seen.healthy[row]
    if seen.kind == AWAY:
        assert set(seen.opened.values()) >= {"`L2Error`"}
        assert {seen.opened[row] for row in failing} == {"`L2Error`"}
    if seen.kind == BUS_AWAY:
        assert failing == {SWITCH}
    fails = seen.kind in {AWAY, REFUSES, BUS_AWAY} or "cut within" in pair[0]
    assert bool(failing) == fails


def test_document(degrading):
    """What docs/outages.md says is what was observed."""
    text = DOCUMENT.read_text(encoding="utf-8")
    observed = render(text, lambda fault, adapter: degrading[fault, adapter].result())
    assert text == observed, f"docs/outages.md has to be rewritten: {COMMAND}"


def test_a_cluster_answers_alike(degrading):
    """As one server does, in every cell; so it needs no table of its own."""
    for fault in OVER_CLUSTER.place.faults:
        cluster, one = (
            degrading[fault, adapter.name].result() for adapter in (OVER_CLUSTER, PLAIN)
        )
        assert cluster.healthy == one.healthy
        assert cluster.failing == one.failing
        assert cluster.opened == one.opened


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_public_method_is_asked(name):
    """No method of an adapter is missing from the tables."""
    adapter = ADAPTERS[name]
    methods = {
        method
        for method, value in inspect.getmembers(adapter.public)
        if callable(value) and not method.startswith("_")
    }
    asked = {case.method for case in adapter.cases} | adapter.not_asked
    twins = {
        method for method in methods if method[:1] == "a" and method[1:] in methods
    }
    assert methods - twins <= asked
