"""Interrupts a call at each place where Python lets an exception in from outside.

A time limit, ``PyThreadState_SetAsyncExc``, a signal handler that raises, a greenlet's
end: none can strike just anywhere.  The interpreter looks for such an exception at the
beginning of every Python function (RESUME), after a call of something that is not
written in Python (CALL), and when a loop jumps back.  Between other instructions it
never does: so ``with lock:`` is safe, and an ``__exit__`` written in Python is not.

``strike`` uses the very mechanism: a trace function counts instructions, and before the
n-th asks for an exception, as another thread would.  The interpreter then raises it at
the first place where it looks.  With n from 0 on, every such place is struck once.
"""

from __future__ import annotations

import ctypes
import dis
import linecache
import sys
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

LOOKS = {
    number
    for name, number in dis.opmap.items()
    if name.startswith("CALL") or name == "JUMP_BACKWARD"
}
"""The instructions that look; RESUME has an event of its own, that of the call.

A conditional jump back looks only if it is taken.  Asked for where it is not, the
exception would come up anywhere later; where it is, the next call of the loop stands
for it.
"""


class StrikeError(KeyboardInterrupt):
    """What strikes; event loops know this kind, and end."""


def _make_trigger() -> Any:
    """Make an object whose attribute ``now`` asks for the exception in this thread.

    Reading an attribute is no place where Python looks: a call would be, and the
    exception would come up in the trace function.
    """
    ask = ctypes.PyDLL(None).PyThreadState_SetAsyncExc
    ask.argtypes = [ctypes.c_ulong, ctypes.py_object, ctypes.py_object]
    ask.restype = None
    asked = partial(ask, threading.get_ident(), StrikeError)

    class Trigger:
        now = property(asked)  # its third argument, the object, is ignored

    return Trigger()


MOST_PLACES = 20_000
"""Several times what the longest call has."""
WAKES = ("set_result(", "set_exception(")
"""Calls that end a future: struck within, asyncio loses the wake-up of its task."""

IMPORTS = "<frozen importlib"
"""Python's own imports: struck within, they keep the lock that every import takes."""


def strike(number: int, call: Callable[[], object], within: str = "") -> bool:
    """Run the call, struck at its ``number``-th place; return whether there was one.

    Only places in files are counted whose path has ``within`` as a folder, and none
    where a future is ended or a module imported.
    """
    folder = f"/{within}/" if within else ""
    trigger, left = _make_trigger(), number

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal left
        path = frame.f_code.co_filename
        if folder not in path or path.startswith(IMPORTS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        looks = event == "call" or (
            event == "opcode" and frame.f_code.co_code[frame.f_lasti] in LOOKS
        )
        if looks and not _wakes(frame):
            if left == 0:
                left = -1
                sys.settrace(None)
                trigger.now  # noqa: B018 it strikes soon after
                return trace
            left -= 1
        return trace

    told = sys.unraisablehook
    sys.unraisablehook = deque(maxlen=0).append  # a hook in Python would be struck, too
    sys.settrace(trace)
    try:
        call()
        _see_it_through()
    except StrikeError:
        pass
    finally:
        sys.settrace(None)
        sys.unraisablehook = told
    return left < 0


def _wakes(frame: FrameType) -> bool:
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno or 0)
    return any(call in line for call in WAKES)


def _see_it_through() -> None:
    """Have what is still to come come here."""


def strike_everywhere(
    call: Callable[[], object],
    check: Callable[[int], object],
    *,
    within: str = "",
) -> int:
    """Strike a call at each of its places, and check after each; return how many.

    Fails for a call that has more and more of them: it would never come to an end.
    """
    number = 0
    while strike(number, call, within):
        check(number)
        number += 1
        assert number < MOST_PLACES, "does the call take longer after each strike?"
    return number
