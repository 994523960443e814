"""What the parent asks of this process, handed over in a file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "CACHEBRIDGE_SUITE_PLAN"
REMOTE_WRITES = "inside.remote.RemoteWrites"
BY_TASKS = "inside.tasks.TaskBridge"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of some tests against one backend.

    `location` ends before the database number: each LOCATION of the foreign settings
    becomes a database of its own, or, where there are some, one of `stores`.
    """

    settings: str
    labels: list[str]
    backend: str
    location: str
    report: str
    timeout_s: float
    remote_writes: bool = False
    watches_l1: bool = False
    by_tasks: bool = False
    stores: tuple[str, ...] = ()
    has_bus: bool = True

    @property
    def serving(self) -> str:
        """The BACKEND that settings name: the one under test, or what wraps it."""
        if self.by_tasks:
            return BY_TASKS
        return REMOTE_WRITES if self.remote_writes else self.backend


def current() -> Plan:
    """Return the plan of this process."""
    return Plan(**json.loads(Path(os.environ[VARIABLE]).read_text()))
