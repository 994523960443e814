"""Leave the shop running: ``python -m example_project.serve``, Ctrl-C ends it.

The same set-up as the demo's: a private Redis, two gunicorn workers of the shop, two of
the Flask service beside it. A flash sale is open.
"""

from __future__ import annotations

import os
import signal
import sys

from cachebridge.testing import redis_server
from example_project import stack, together


def main() -> int:
    """Start the shop, say where it is, wait for Ctrl-C."""
    stack.stop_on_signals()
    backend = os.getenv("SHOP_CACHE_BACKEND", stack.CACHEBRIDGE)
    try:
        with (
            redis_server() as redis,
            stack.shop("shop", backend, redis.url) as shop,
            together.price_service(redis.url) as service,
        ):
            print(f"The shop has {stack.prepare_database()}.")
            operator = stack.manage("operator", SHOP_STAFF_TOKEN=stack.STAFF_TOKEN)
            has_sale = backend == stack.CACHEBRIDGE
            if has_sale:
                stack.manage("sale", "open", SHOP_REDIS_URL=redis.url)
            shop.await_ready()
            service.await_ready()
            print(
                f"{shop.url}        the shop, {shop.workers} workers\n"
                + f"{shop.url}sale/   a flash sale\n" * has_sale
                + f"{shop.url}stats/  what {backend} did in a worker\n"
                + f"{shop.url}{stack.CACHES_PAGE}  how the caches are, for "
                f"{operator} with the password {stack.STAFF_TOKEN}\n"
                * has_sale
                + f"{service.url}products/1/  a price, from the Flask service\n"
                f"{redis.url}     the Redis of both\n\n"
                "Change a price (the same token works in the form on each product):\n"
                f"  curl -d price=12.34 -H 'Authorization: Bearer {stack.STAFF_TOKEN}' "
                f"{shop.url}products/1/price/\n\n"
                "Ctrl-C stops all of it.",
                flush=True,
            )
            signal.pause()
    except KeyboardInterrupt:
        print("\nstopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
