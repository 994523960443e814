"""The verbs of ``python -m cachebridge``, ``manage.py`` and ``flask cachebridge``."""

from __future__ import annotations

from cachebridge.commands.report import DONE, FINDING, NOT_DONE
from cachebridge.commands.verbs import add_verbs, carry_out, main

__all__ = ["DONE", "FINDING", "NOT_DONE", "add_verbs", "carry_out", "main"]
