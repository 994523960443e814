"""What the parent asks of this process, handed over in a file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "CACHEBRIDGE_SUITE_PLAN"
REMOTE_WRITES = "inside.remote.RemoteWrites"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of some tests against one backend.

    `location` ends before the database number: each LOCATION of the foreign settings
    becomes a database of its own.
    """

    settings: str
    labels: list[str]
    backend: str
    location: str
    report: str
    remote_writes: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def serving(self) -> str:
        """The BACKEND that settings name: the one under test, or what wraps it."""
        return REMOTE_WRITES if self.remote_writes else self.backend


def current() -> Plan:
    """Return the plan of this process."""
    return Plan(**json.loads(Path(os.environ[VARIABLE]).read_text()))
