"""The scenarios: two or three operations, their messages and the faults between them.

The programs are written with the letters of ``actors.NAMES``; a read that hits L1 need
not be in a program, since the witness tries one in every state.
"""

from __future__ import annotations

from cachebridge.config import EngineOptions
from cachebridge.core.entry import MISSING
from tests.schedules.world import Scenario

ONE_ENTRY = EngineOptions(l1_ttl_ratio=1.0, l1_max_entries=1)

_ALL = (
    # Reads of one process against writes of another.
    Scenario("fill", ((0, "R"), (0, "R"), (1, "WW"))),
    Scenario("fill2", ((0, "R"), (0, "R"), (0, "R"), (1, "W"))),
    Scenario("evict", ((0, "R"), (0, "R"), (1, "W")), {"evict": 1}, options=ONE_ENTRY),
    # Writes of one process and of several.
    Scenario("local", ((0, "W"), (0, "W"), (0, "R"))),
    Scenario("overlap", ((0, "WR"), (0, "W"), (1, "W"))),
    Scenario("mixed", ((0, "W"), (0, "RR"), (1, "W"))),
    Scenario("mixed2", ((0, "W"), (0, "R"), (0, "W"), (1, "W"))),
    Scenario("two", ((0, "W"), (1, "W"), (1, "R"))),
    # Writes that time out, and whose command executes late, or never, or twice.
    Scenario("ghost", ((0, "WW"), (0, "R")), {"timeout": 1}),
    Scenario("ghost2", ((0, "W"), (0, "W"), (1, "W")), {"timeout": 1}),
    Scenario("resend", ((0, "WW"), (0, "R")), {"resend": 1}),
    Scenario("cancel", ((0, "W"), (0, "WR")), {"cancel": 1}),
    Scenario("crash", ((0, "W"), (1, "R"), (1, "R")), {"crash": 1}),
    # A subscription that breaks.
    Scenario("disc", ((0, "R"), (0, "W"), (1, "W")), {"break": 1}),
    Scenario("disc2", ((0, "R"), (1, "WW")), {"break": 2}),
    Scenario("hb", ((1, "W"),), {"break": 1, "beat": 2}, ticks=(1.5, 1.5), warm=True),
    Scenario("hb2", ((0, "R"), (1, "W")), {"beat": 1}, ticks=(1.5, 1.5)),
    # Other operations.
    Scenario("delete", ((0, "D"), (0, "R"), (1, "R"))),
    Scenario("add", ((0, "A"), (0, "R"), (1, "D")), initial=MISSING),
    Scenario("incr", ((0, "I"), (0, "R"), (1, "I")), initial=5, warm=True),
    # Expiry: entries, and a TTL that gets shorter.
    Scenario("expire", ((0, "W"), (1, "R")), ticks=(0.5, 0.5, 0.5), ttl_ms=1000),
    Scenario(
        "touch",
        ((0, "T"), (1, "RR")),
        ticks=(0.5, 0.5),
        initial_ttl_ms=5000,
        touch_ms=500,
    ),
    # Two keys in one call.
    Scenario("many", ((0, "G"), (1, "M"))),
    Scenario("many2", ((0, "M"), (0, "W"), (0, "G"))),
    # Every acquisition of the lock is a step.
    Scenario("fine-fill", ((0, "R"), (0, "R"), (1, "W")), fine=True),
    Scenario("fine-disc", ((0, "R"), (1, "W")), {"break": 1}, fine=True, warm=True),
)
SCENARIOS = {scenario.name: scenario for scenario in _ALL}
