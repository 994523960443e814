"""One suite from its launch to its verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.proofs.suites.judge import (
    Rules,
    Verdict,
    judged,
    locmem_labels,
    locmem_problems,
    rules_for,
)
from tests.proofs.suites.launch import CACHEBRIDGE, LOCMEM, launched

if TYPE_CHECKING:
    from tests.proofs.suites.catalog import Suite


def checked(suite: Suite, backend: str = CACHEBRIDGE) -> Verdict:
    """Run a suite and judge it.

    The exclusions are those of our backend. Another one is only looked at: everything
    that does not pass is a problem, and every class may do without the cache.
    """
    if backend != CACHEBRIDGE:
        report = launched(suite, backend)
        return judged(suite, report, Rules(is_strict=False))
    rules = rules_for(suite.name)
    report = launched(suite)
    verdict = judged(suite, report, rules)
    labels = locmem_labels(report, rules)
    if not labels:
        return verdict
    baseline = launched(suite, LOCMEM, labels)
    problems = verdict.problems + locmem_problems(baseline, rules)
    return replace(verdict, problems=problems)
