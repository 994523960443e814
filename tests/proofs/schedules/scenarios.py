"""The scenarios: two or three operations, their messages and the faults between them.

The programs are written with the letters of ``doubles.NAMES``; a read that hits L1 need
not be in a program, since the witness tries one in every state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from cachebridge.config import EngineOptions
from cachebridge.core.entry import MISSING
from tests.proofs.schedules.doubles import KEY, LOCK, OTHER

if TYPE_CHECKING:
    from collections.abc import Mapping

INITIAL = "w-"
WHOLE_TTL = EngineOptions(l1_ttl_ratio=1.0)
"""So that an entry lives as long as it may: half of that would hide what is wrong."""


@dataclass(frozen=True)
class Scenario:
    """What happens in a world, if only in which order."""

    name: str
    threads: tuple[tuple[int, str], ...]
    """Per thread its process and its program: letters of ``doubles.NAMES``."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """How often each fault may strike, always process 0 and its commands.

    timeout (reply lost, or the command executes late or never), cancel (the same, by an
    exception that no caller catches), resend (a copy of the command executes as well),
    crash, break (of the bus), beat (a heartbeat more), evict.
    """
    ticks: tuple[float, ...] = ()
    """Seconds by which the clock moves, one tick after the other."""
    processes: int = 2
    initial: Any = INITIAL
    """What L2 holds at the start; MISSING for nothing."""
    initial_ttl_ms: int | None = None
    ttl_ms: int | None = None
    touch_ms: int | None = None
    warm: bool = False
    """Whether every process has read the keys before."""
    fine: bool = False
    """Whether every acquisition of the lock is a step of its own."""
    options: EngineOptions = WHOLE_TTL
    make_world: ClassVar[Any] = None
    """What makes its world, if it is a special one."""

    @cached_property
    def watched(self) -> tuple[str, ...]:
        """The keys in which the operations take an interest."""
        letters = set().union(*[program for _, program in self.threads])
        return (KEY, *[OTHER] * bool(letters & set("GM")), *[LOCK] * ("L" in letters))


ONE_ENTRY = EngineOptions(l1_ttl_ratio=1.0, l1_max_entries=1)

_DEFAULT = (
    # Reads of one process against writes of another.
    Scenario("fill", ((0, "R"), (0, "R"), (1, "WW"))),
    Scenario("fill2", ((0, "R"), (0, "R"), (0, "R"), (1, "W"))),
    Scenario("evict", ((0, "R"), (0, "R"), (1, "W")), {"evict": 1}, options=ONE_ENTRY),
    # Writes of one process, and of two.
    Scenario("local", ((0, "W"), (0, "W"), (0, "R")), processes=1),
    Scenario("overlap", ((0, "W"), (0, "W"), (1, "W"))),
    Scenario("mixed", ((0, "W"), (0, "RR"), (1, "W"))),
    Scenario("two", ((0, "W"), (1, "W"), (1, "R"))),
    # Writes that time out, and whose command executes late, or never, or twice.
    Scenario("ghost", ((0, "WW"), (0, "R")), {"timeout": 1}),
    Scenario("ghost2", ((0, "W"), (0, "W"), (1, "W")), {"timeout": 1}),
    Scenario("resend", ((0, "WW"), (0, "R")), {"resend": 1}),
    Scenario("cancel", ((0, "W"), (0, "WR")), {"cancel": 1}),
    Scenario("crash", ((0, "W"), (1, "R"), (1, "R")), {"crash": 1}),
    # A bus that breaks, and trust that ends.
    Scenario("disc", ((0, "R"), (1, "WW")), {"break": 1}),
    Scenario("disc2", ((0, "R"), (1, "W")), {"break": 2}, warm=True),
    Scenario("disc3", ((0, "W"), (1, "W")), {"break": 1}),
    Scenario("hb", ((1, "W"),), {"break": 1, "beat": 1}, ticks=(1.5, 1.5), warm=True),
    Scenario("hb2", ((0, "R"), (1, "W")), {"beat": 1}, ticks=(2.5,)),
    # Other operations.
    Scenario("delete", ((0, "D"), (0, "R"), (1, "R"))),
    # Keys by pattern: found, deleted with a message, and a last message for all.
    Scenario("pattern", ((0, "P"), (0, "R"), (1, "R")), warm=True),
    Scenario("pattern2", ((0, "PR"), (1, "WR")), warm=True),
    Scenario("pattern-crash", ((0, "P"), (1, "R")), {"crash": 1}, warm=True),
    Scenario("pattern-disc", ((0, "R"), (1, "P")), {"break": 1}, warm=True),
    Scenario("has", ((0, "H"), (0, "R"), (1, "A")), initial=MISSING),
    Scenario("add", ((0, "A"), (0, "R"), (1, "D")), initial=MISSING),
    Scenario("incr", ((0, "I"), (0, "R"), (1, "I")), initial=5, warm=True),
    # A counter that is full at 6: L1 remembers that it was, until it is not.
    Scenario("count", ((0, "NN"), (0, "R"), (1, "K")), initial=5),
    Scenario("count2", ((0, "NKR"), (0, "N")), initial=6, processes=1),
    Scenario("count-ghost", ((0, "NK"), (0, "N")), {"timeout": 1}, initial=6),
    Scenario("count-disc", ((0, "N"), (1, "K")), {"break": 1}, initial=6),
    # A lock made of ``add``: who wins it reads what was written before.
    Scenario("lock", ((0, "LR"), (1, "W")), warm=True),
    Scenario("lock2", ((0, "LR"), (0, "W"), (1, "W")), warm=True),
    Scenario("lock3", ((0, "LR"), (1, "LWU")), warm=True),
    Scenario("lock-beat", ((0, "LR"), (1, "W")), {"beat": 1}, warm=True),
    Scenario("lock-disc", ((0, "LR"), (1, "W")), {"break": 1}, warm=True),
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
    Scenario("many", ((0, "G"), (0, "R"), (1, "M"))),
    Scenario("many2", ((0, "M"), (0, "W"), (0, "G"))),
    # Every acquisition of the lock is a step of its own.
    Scenario("fine-fill", ((0, "R"), (0, "R"), (1, "W")), fine=True),
    Scenario("fine-write", ((0, "W"), (0, "WR")), processes=1, fine=True),
    Scenario("fine-disc", ((0, "R"), (1, "W")), {"break": 1}, fine=True, warm=True),
)
_LARGE = (
    Scenario("large-fine", ((0, "W"), (0, "R"), (1, "W")), fine=True),
    Scenario("large-overlap", ((0, "WR"), (0, "W"), (1, "W"))),
    Scenario("large-mixed", ((0, "W"), (0, "R"), (0, "W"), (1, "W"))),
    Scenario("large-ghost", ((0, "WW"), (0, "R"), (1, "R")), {"timeout": 1}),
    Scenario("large-disc", ((0, "R"), (0, "W"), (1, "W")), {"break": 1}),
    Scenario("large-disc2", ((0, "R"), (1, "WW")), {"break": 2}),
    Scenario("large-hb2", ((0, "R"), (1, "W")), {"beat": 1}, ticks=(1.5, 1.5)),
    Scenario(
        "large-hb", ((1, "W"),), {"break": 1, "beat": 2}, ticks=(1.5, 1.5), warm=True
    ),
)
SCENARIOS = {scenario.name: scenario for scenario in (*_DEFAULT, *_LARGE)}
DEFAULT = [scenario.name for scenario in _DEFAULT]
LARGE = [scenario.name for scenario in _LARGE]
"""As the default ones, with one operation or fault more: slow."""
