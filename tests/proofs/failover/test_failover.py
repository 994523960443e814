"""Three sentinels, three servers, three processes with threads and tasks."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from cachebridge.testing import sentinel_group
from tests.proofs.failover.run import (
    PROMISED_S,
    STARVED_S,
    TRUST_S,
    Calm,
    Fleet,
    run,
    stale_reads,
    values_at,
    wait_for_all,
)
from tests.rig import eventually

pytestmark = [pytest.mark.proof, pytest.mark.usefixtures("shared_server")]


@pytest.fixture
def group():
    with sentinel_group(replicas=2) as made:
        yield made


@pytest.fixture
def fleet(group, tmp_path):
    with ExitStack() as running:
        yield Fleet(group, tmp_path, running)


@pytest.mark.parametrize("how", ["command", "kill"])
def test_every_writer_follows(group, fleet, how):
    """All write to the new master in time, and nothing that is read is too old."""
    old = group.master()
    wait_for_all(old, time.monotonic())
    if how == "command":
        new = group.failover()
    else:
        old.kill()
        new = group.promoted(old)
    promoted = time.monotonic()
    lasted_s = wait_for_all(new, promoted)
    print(f"{how}: all writers at the new master after {lasted_s:.2f} s")
    if how == "command":
        # The old one still takes writes: no writer has written there since.
        last = max(begin for _, begin in values_at(old).values())
        print(f"last write at the old master {last - promoted:+.2f} s")
        assert last - promoted < PROMISED_S + STARVED_S
    assert lasted_s < PROMISED_S + STARVED_S
    begin = time.monotonic() + TRUST_S
    time.sleep(2 * (TRUST_S + STARVED_S))  # load: the more of it, the more is judged
    before = values_at(new)
    eventually(lambda: all(values_at(new)[key] > before[key] for key in before))
    stale, judged = stale_reads(fleet.answers(), Calm(begin, time.monotonic()))
    assert not stale
    assert judged > 100


def test_a_sentinel_is_killed_with_the_master(group, fleet):
    """The two others are enough, also for processes that asked the dead one first."""
    old = group.master()
    wait_for_all(old, time.monotonic())
    group.sentinels[0].kill()
    old.kill()
    new = group.promoted(old)
    assert wait_for_all(new, time.monotonic()) < PROMISED_S + STARVED_S
    assert fleet.answers()


def test_failovers_at_random():
    """Masters are demoted, killed and paused, and come back as replicas."""
    outcome = run(seed=3, seconds=25.0)
    print("\n".join(outcome.lines()))
    assert outcome.is_good
