"""Drives plans by hand."""

from __future__ import annotations

import pytest


def drive(plan, script):
    """Send the scripted replies, checking each step; return the plan's result.

    A reply that is an exception is thrown in.
    """
    reply = None
    for expected, answer in script:
        step = plan.throw(reply) if isinstance(reply, Exception) else plan.send(reply)
        assert (step.name, *step.args) == expected
        reply = answer
    go_on = plan.throw if isinstance(reply, Exception) else plan.send
    with pytest.raises(StopIteration) as done:
        go_on(reply)
    return done.value.value
