"""Ways in which a process cannot start a thread, or has none that goes on."""

from __future__ import annotations

import os
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def refuse_threads(patch: pytest.MonkeyPatch) -> None:
    """Be at the limit of threads."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    patch.setattr(threading.Thread, "start", refuse)


def only_fork(patch: pytest.MonkeyPatch) -> None:
    """Be a master of uWSGI, which forks its workers later."""
    uwsgi = SimpleNamespace(worker_id=int, mule_id=int, masterpid=os.getpid)
    patch.setitem(sys.modules, "uwsgi", uwsgi)


def freeze(patch: pytest.MonkeyPatch) -> None:
    """Be a worker of uWSGI without ``enable-threads``."""
    patch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=False))
