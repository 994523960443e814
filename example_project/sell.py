"""The load script of the sale: ``python -m example_project.sell``.

Starts the shop (two gunicorn workers), the asynchronous service (uvicorn) and the Flask
service on one Redis, lets many buyers in through all of them at once until long after
the stock is gone, and prints what became of it. The demo plays it as a scene. Status 0:
every promise held; 1: one did not.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cachebridge.testing import ServerNotFoundError, ServerStartError, redis_server
from example_project import awaited, buyers, stack, together
from example_project.client import FAILURES
from example_project.telling import sum_up

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from example_project.buyers import Result
    from example_project.stack import Service

__all__ = ["open_sale", "play", "show"]


def open_sale(redis_url: str, *, stock: int) -> int:
    """Open a sale, with a few users whom it refuses; return its number."""
    opening = ("open", "--stock", str(stock), "--per-user", str(buyers.PER_USER))
    printed = stack.manage(
        "sale", *opening, "--deny", *buyers.BOTS, SHOP_REDIS_URL=redis_url
    )
    return int(printed)


def show(seen: Result, title: str = "") -> list[str]:
    """Print what became of the sale; return the promises that did not hold."""
    print(
        f"{title}A flash sale of {seen.audit['delivered']:,} pieces through two "
        "gunicorn workers, uvicorn and Flask"
    )
    _row("", *(phase.title for phase in seen.phases))
    _row("requests/s", *(f"{phase.rate:,.0f}" for phase in seen.phases))
    _row("slowest request", *(f"{phase.slowest_ms:.0f} ms" for phase in seen.phases))
    _row("answers without Redis", *(f"{phase.local:.1%}" for phase in seen.phases))
    _row("oversold", f"{seen.oversold}")
    _row("undersold", f"{seen.undersold}")
    if seen.denied_ms is not None:
        _row("a change of the deny list, everywhere after", f"{seen.denied_ms:.0f} ms")
    last = seen.phases[-1]
    sum_up(
        f"oversold {seen.oversold}, undersold {seen.undersold}; when sold out "
        f"{last.rate:,.0f} requests/s, {last.local:.0%} of them without Redis"
    )
    print(f"   sold by: {_listed(seen.sold_by)}")
    print(f"   answers: {_listed(seen.outcomes)}\n")
    return seen.broken()


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def _row(label: str, *cells: str) -> None:
    print(f"   {label:<33}" + "".join(f"{cell:>14}" for cell in cells))


def play(
    services: Mapping[str, Service], redis_url: str, *, stock: int, title: str = ""
) -> list[str]:
    """Open a sale, sell through all services, print what became of it.

    Returns the promises that did not hold.
    """
    number = open_sale(redis_url, stock=stock)
    return show(buyers.sell(services, number, stock=stock), title)


def main() -> int:
    """Sell, and report the promises that did not hold."""
    parser = argparse.ArgumentParser(prog="python -m example_project.sell")
    parser.add_argument("--stock", type=int, default=2_000, help="pieces to sell")
    stock = parser.parse_args().stock
    stack.stop_on_signals()
    try:
        with ExitStack() as stage:
            redis = stage.enter_context(redis_server())
            stack.prepare_database()
            services = {
                buyers.DJANGO: stack.shop("sale", stack.CACHEBRIDGE, redis.url),
                buyers.TASKS: awaited.async_service(redis.url),
                buyers.FLASK: together.price_service(redis.url),
            }
            for service in services.values():
                stage.enter_context(service)
            for service in services.values():
                service.await_ready("/stats/")
            broken = play(services, redis.url, stock=stock)
    except KeyboardInterrupt:
        print("\nInterrupted. Everything is stopped again.")
        return 130
    except (
        *FAILURES,
        ServerNotFoundError,
        ServerStartError,
        stack.ServiceError,
    ) as exc:
        print(f"FAILED: {type(exc).__name__}: {exc}\nThe logs are in {stack.VAR_DIR}.")
        return 1
    for promise in broken:
        print(f"BROKEN: {promise}")
    if not broken:
        print("Every promise held. Everything is stopped again.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
