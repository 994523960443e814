"""What log lines are about, for programs: ``docs/operations.md`` has the table.

Every line has ``extra={"cachebridge": {"event": ..., ...}}``, which formatters for JSON
and structlog pick up.  Values are those of the text: without secrets, keys escaped.
"""

from __future__ import annotations

from typing import Any


def event(name: str, **facts: Any) -> dict[str, Any]:
    """Return what a log line takes as ``extra``."""
    return {"cachebridge": {"event": name, **facts}}
