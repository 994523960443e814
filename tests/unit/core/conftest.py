"""The rules over a real store, with a clock of the test's own."""

from __future__ import annotations

import pytest

from tests.rig import FakeClock, make_rules


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def made(clock):
    return make_rules(clock)


@pytest.fixture
def rules(made):
    return made[0]


@pytest.fixture
def store(made):
    return made[1]


@pytest.fixture
def counters(made):
    return made[2]
