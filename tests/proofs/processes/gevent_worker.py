"""The worker of the process test in a process that gevent has patched."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()  # before anything else is imported

import sys  # noqa: E402

from gevent.fileobject import FileObjectPosix  # noqa: E402

from tests.proofs.processes.worker import main  # noqa: E402

if __name__ == "__main__":
    # Waiting for the driver's next word must not stop the other greenlets.
    sys.stdin = FileObjectPosix(0, "r", closefd=False)
    main()
