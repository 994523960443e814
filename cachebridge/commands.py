"""The verbs of ``python -m cachebridge`` and ``manage.py cachebridge``.

Exit status: 0 done, 1 done in part, 2 not done.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from cachebridge.cache import Cache
from cachebridge.errors import CacheBridgeError
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cachebridge.engine.admin import AdminMethods

DONE, IN_PART, NOT_DONE = 0, 1, 2
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
        return IN_PART, f"{told}: nothing is ordered."
    return (
        DONE if len(there) == wanted else IN_PART,
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one verb; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cachebridge")
    verbs = parser.add_subparsers(dest="verb", required=True)
    warming: Any = verbs.add_parser("warm", help=WARM_HELP, description=WARM_HELP)
    warming.add_argument("url", metavar="URL", help="the LOCATION of the cache")
    warming.add_argument(
        "--key-prefix", default="", help="its KEY_PREFIX; Django's are 'prefix:1:'"
    )
    add_keys(warming)
    given = parser.parse_args(arguments)
    try:
        with Cache(given.url, KEY_PREFIX=given.key_prefix, ON_ERROR="raise") as cache:
            status, told = warm(cache, given.keys, given.pattern)
    except CacheBridgeError as exc:
        status, told = NOT_DONE, str(exc)
    print(told, file=sys.stdout if status == DONE else sys.stderr)
    return status
