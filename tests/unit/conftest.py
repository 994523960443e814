"""What holds for all unit tests."""

from __future__ import annotations

import dataclasses

import pytest

from cachebridge.config import EngineOptions
from tests.rig import PATIENCE_S

PATIENT_DEFAULTS = {
    "socket_timeout": PATIENCE_S,
    "socket_connect_timeout": PATIENCE_S,
}


@pytest.fixture(autouse=True)
def patient_sockets(monkeypatch):
    """Give servers more time than a busy machine needs, unless a test sets a time.

    With the default of a second, a server that got no turn would count as away.
    """
    names = [each.name for each in dataclasses.fields(EngineOptions)]
    defaults = EngineOptions.__init__.__defaults__
    assert len(defaults) == len(names)
    patient = [
        PATIENT_DEFAULTS.get(name, default)
        for name, default in zip(names, defaults, strict=True)
    ]
    monkeypatch.setattr(EngineOptions.__init__, "__defaults__", tuple(patient))
