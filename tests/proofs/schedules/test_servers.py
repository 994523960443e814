"""One server (I21) and replies of the wrong one (I22), in every order of the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from cachebridge.bus.session import Session
from cachebridge.engine.engine import Engine
from cachebridge.l2.connections.client import Client
from cachebridge.l2.connections.pool import Era, Pool
from cachebridge.l2.redis.client import RedisClient
from tests.proofs.schedules.cases import cases
from tests.proofs.schedules.servers import SCENARIOS, explore

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.l2.connections.link import Link

QUICK = {
    *("failover-late", "links are not proven", "trust outlasts a wrong reply"),
    "a wrong reply is an answer",
}
"""Each takes about a second at most."""


@pytest.mark.parametrize("name", cases(SCENARIOS, QUICK))
def test_no_order_of_steps_breaks_an_invariant(name: str) -> None:
    """L1 hits in some of them, and everything comes to an end."""
    report = explore(SCENARIOS[name])
    assert not report.violation
    assert report.hits
    assert report.ends


# -- each part is needed ---------------------------------------------------------------


def _open_without_proof(self: Pool) -> Link:
    link = self._open()
    link.era = self.era
    return link


def _keep_the_era(self: Pool, meets: Any, proven: Link) -> Era:
    self.era.meets = meets
    proven.era = self.era
    return self.era


def _leave_links_alone(self: Engine, _reason: str) -> None:
    assert self.stores.bus is not None
    self.stores.bus.pool.leave()


def _believe_a_replica(*_args: object) -> None:
    pass


MUTANTS: dict[str, tuple[type, str, Callable[..., Any], str, str]] = {
    "links are not proven": (Pool, "open", _open_without_proof, "moved", "I21"),
    "links outlast sessions": (Pool, "begin_era", _keep_the_era, "moved-cut", "I21"),
    "heartbeats are no writes": (
        Session,
        "_judge",
        _believe_a_replica,
        "failover",
        "I21",
    ),
    "trust outlasts a wrong reply": (
        Engine,
        "leave_server",
        _leave_links_alone,
        "failover-write",
        "I21",
    ),
    "a wrong reply is an answer": (
        RedisClient,
        "_recover",
        Client._recover,
        "failover-write",
        "I22",
    ),
}


@pytest.mark.parametrize("name", cases(MUTANTS, QUICK))
def test_mutant_is_caught(name: str) -> None:
    """With one part switched off some order of the steps goes wrong."""
    owner, attribute, replacement, scenario, number = MUTANTS[name]
    with patch.object(owner, attribute, replacement):
        violation = explore(SCENARIOS[scenario]).violation
    assert violation.startswith(f"{number}: "), violation
