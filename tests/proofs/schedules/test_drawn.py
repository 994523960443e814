"""The schedules that docs/read-fill-race.md shows are those that the explorer finds."""

from __future__ import annotations

import re
from pathlib import Path

from tests.proofs.schedules.__main__ import MUTANTS
from tests.proofs.schedules.explorer import explore, narrate
from tests.proofs.schedules.scenarios import SCENARIOS

PAGE = Path("docs/read-fill-race.md")
TRACE = re.compile(r"<!-- trace: ([^>]*) -->\n```text\n(.*?)```", re.DOTALL)


def test_the_shortest_schedule_is_shown():
    """It fails without the token, and the same steps do no harm with it."""
    shown = dict(TRACE.findall(PAGE.read_text()))
    mutant = MUTANTS["no fill token"]
    scenario = SCENARIOS["fill"]
    with mutant.applied():
        found = explore(scenario, mutant.watch, shortest=True).violation
        assert found is not None
        without = narrate(scenario, found.path, mutant.watch)
    assert shown["no fill token"].splitlines() == without
    assert shown["the rules"].splitlines() == narrate(scenario, found.path)
