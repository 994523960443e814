"""What the program that runs this process allows its Python threads: see uWSGI.

uWSGI forks its workers in C, and calls none of Python's fork hooks.  A thread of the
process that forks may hold the interpreter's lock at that moment; the worker is then
born with a lock that no thread will release.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final

NO_THREADS: Final = (
    "uWSGI runs without --enable-threads, so the listener cannot run: L1 stays off"
)


def only_forks() -> bool:
    """Return whether this process is going to fork workers in C: no threads here."""
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None:
        return False
    try:
        is_worker = uwsgi.worker_id() or uwsgi.mule_id()
        return not is_worker and uwsgi.masterpid() in {0, os.getpid()}
    except AttributeError:  # a module that only has the name
        return False


def freezes_threads() -> bool:
    """Return whether threads stand still here except during requests."""
    uwsgi = sys.modules.get("uwsgi")
    is_greenlet = getattr(uwsgi, "loop", None) is not None
    return not (getattr(uwsgi, "has_threads", True) or is_greenlet)
