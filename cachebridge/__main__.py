"""``python -m cachebridge``."""

from __future__ import annotations

import sys

from cachebridge.commands import main

if __name__ == "__main__":
    sys.exit(main())
