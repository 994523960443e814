from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def untraced_schedules(untraced: None) -> None:
    """Coverage would trace the same lines a hundred thousand times."""
