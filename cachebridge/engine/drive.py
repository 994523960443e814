"""The synchronous driver of plans: see ``core/plans.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.errors import L2Error

if TYPE_CHECKING:
    from cachebridge.core.plans import Plan


def drive(plan: Plan, steps: object) -> Any:
    """Carry a plan out, step by step; each is a method of ``steps``."""
    result: Any = None
    failure: L2Error | None = None
    while True:
        try:
            step = plan.send(result) if failure is None else plan.throw(failure)
        except StopIteration as done:
            return done.value
        failure = None
        try:
            result = getattr(steps, step.name)(*step.args)
        except L2Error as exc:
            failure = exc
