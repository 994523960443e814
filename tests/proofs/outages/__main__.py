"""``python -m tests.proofs.outages --write``: see every fault, write the tables."""

from __future__ import annotations

import argparse
import logging
import os
import sys

import django


def main() -> int:
    """Compare docs/outages.md with what is observed, or write it."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.outages")
    parser.add_argument("--write", action="store_true", help="rewrite docs/outages.md")
    chosen = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django_settings")
    django.setup()
    logging.disable()  # faults are what this is about: no line for each
    from tests.proofs.outages.observe import observe_all
    from tests.proofs.outages.table import COMMAND, DOCUMENT, render

    seen = observe_all("degrade")
    text = DOCUMENT.read_text(encoding="utf-8")
    observed = render(text, lambda fault, adapter: seen[fault, adapter].result())
    if chosen.write:
        DOCUMENT.write_text(observed, encoding="utf-8")
    elif observed != text:
        print(f"docs/outages.md differs from what was observed: {COMMAND}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
