"""What log lines are about, for programs: ``docs/operations.md`` has the table.

Every line has ``extra={"cachebridge": {"event": ..., ...}}``, which formatters for JSON
and structlog pick up.  Values are those of the text: without secrets, keys escaped.
The last ones are remembered for ``tail``.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any, Final

KEPT: Final = 64
_PASSED_OVER: Final = frozenset({"count.waits", "flask.not_kept"})
"""Events of debug lines, of which there may be many."""
_lately: deque[tuple[float, dict[str, Any]]] = deque(maxlen=KEPT)


def event(name: str, **facts: Any) -> dict[str, Any]:
    """Return what a log line takes as ``extra``, and remember it."""
    told = {"event": name, **facts}
    if name not in _PASSED_OVER:
        _lately.append((time.monotonic(), told))
    return {"cachebridge": told}


def lately(within_s: float) -> list[tuple[float, dict[str, Any]]]:
    """Return how many seconds ago there was which event, the newest last."""
    now = time.monotonic()
    return [(now - at, told) for at, told in _lately.copy() if now - at <= within_s]


os.register_at_fork(after_in_child=_lately.clear)
