"""One process that uses a group: it tells what it loads, and may be held there."""

from __future__ import annotations

import json
import sys

from cachebridge import Cache


def main(url: str, options: str) -> None:
    """Carry out the orders of standard input: a method and its argument a line."""
    cache = Cache(url, key_prefix="race:", lease_ttl=60, **json.loads(options))

    def say(**what):
        print(json.dumps(what), flush=True)

    def load(number):
        return load_many([number])[number]

    def load_many(numbers):
        say(loading=numbers)
        if order["is_held"]:
            sys.stdin.readline()
        return {number: [number, order["name"]] for number in numbers}

    group = cache.group("product", load, load_many=load_many)
    say(ready=True)
    for line in sys.stdin:
        order = json.loads(line)
        found = getattr(group, order["method"])(order["arg"])
        say(found=list(found.items()) if isinstance(found, dict) else found)


if __name__ == "__main__":
    main(*sys.argv[1:])
