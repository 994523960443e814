"""``warm``: an operator orders a warm-up of all workers."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from cachebridge.commands.report import DONE, FINDING, NOT_DONE
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from cachebridge.engine.admin import AdminMethods

WARM_HELP: Final = (
    "let the workers that have L1_WARM read keys into L1: within about a minute, and "
    "new ones when they start"
)


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``warm`` but the cache."""
    parser.add_argument("keys", nargs="*", metavar="KEY", help="a key of the cache")
    parser.add_argument("--pattern", help="a glob for keys, such as 'product:*'")


def warm(
    cache: AdminMethods, keys: Sequence[str], pattern: str | None
) -> tuple[int, str]:
    """Order a warm-up; return the exit status, and what was done.

    Raises CacheBridgeError, also if the shared store cannot be asked.
    """
    from cachebridge.engine.warm import (  # noqa: PLC0415 as in Cache
        existing,
        find,
        order,
    )
    from cachebridge.engine.warming.lists import MOST_KEYS  # noqa: PLC0415

    if bool(keys) == (pattern is not None):
        return NOT_DONE, "give keys, or --pattern, one of them."
    binding = cache._binding  # noqa: SLF001 both are adapters
    if pattern is not None:
        there = run(find(binding, THREADS, pattern, MOST_KEYS, "one list"))
        wanted = len(there)
    else:
        wanted = len(keys)
        with _progress(wanted) as tell:
            there = run(existing(binding, THREADS, keys, tell))
    run(order(binding, THREADS, there))
    told = f"{len(there)} of {wanted} keys exist"
    if not there:
        return FINDING, f"{told}: nothing is ordered."
    return (
        DONE if len(there) == wanted else FINDING,
        f"{told}: workers with L1_WARM read them.",
    )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], object]]:
    """Show a bar on standard error, of rich if that is installed."""
    try:
        from rich.console import Console  # noqa: PLC0415 not needed
        from rich.progress import Progress  # noqa: PLC0415
    except ImportError:
        yield lambda done: sys.stderr.write(f"{done} of {total} keys\n")
        return
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("keys", total=total)
        yield lambda done: bar.update(task, completed=done)
