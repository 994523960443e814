"""The worker of the process test with every call of the cache made by a task.

Its threads are what asks; one event loop is where all of it happens.
"""

from __future__ import annotations

from typing import Any

from cachebridge import Cache
from tests.proofs.processes import worker
from tests.sides import TaskFace


def task_cache(location: str, **options: Any) -> TaskFace:
    """Make a cache as tasks use it."""
    return TaskFace(Cache(location, **options))


if __name__ == "__main__":
    worker.Cache = task_cache
    worker.main()
