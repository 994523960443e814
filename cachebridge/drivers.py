"""What the author of a store needs to plug it in: ``docs/drivers.md``.

The acceptance test is ``cachebridge.testing.contracts.store_contract``.
"""

from __future__ import annotations

from cachebridge.core.lease import (
    LeaseGet,
    LeaseState,
    LeaseTerms,
    LoadedRaw,
    LoadReply,
)
from cachebridge.errors import ConfigError, L2Error, L2UnavailableError
from cachebridge.l2.driver import Driver, DriverStores, Opening
from cachebridge.l2.memory.driven import TableServer, table_store
from cachebridge.l2.store import (
    COUNTABLE,
    GONE,
    NOT_AN_INTEGER,
    Bounds,
    Counted,
    L2Store,
)
from cachebridge.l2.two_steps import Outbox, announced
from cachebridge.waiting.run import run

__all__ = [
    "COUNTABLE",
    "GONE",
    "NOT_AN_INTEGER",
    "Bounds",
    "ConfigError",
    "Counted",
    "Driver",
    "DriverStores",
    "L2Error",
    "L2Store",
    "L2UnavailableError",
    "LeaseGet",
    "LeaseState",
    "LeaseTerms",
    "LoadReply",
    "LoadedRaw",
    "Opening",
    "Outbox",
    "TableServer",
    "announced",
    "run",
    "table_store",
]
