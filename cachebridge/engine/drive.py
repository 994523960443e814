"""The drivers of plans, one per colour: see ``core/plans.py``."""

from __future__ import annotations

from inspect import iscoroutine
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


async def drive_async(plan: Plan, steps: object) -> Any:
    """The same, where a step may also be a coroutine method."""
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
            if iscoroutine(result):
                result = await result
        except L2Error as exc:
            failure = exc
