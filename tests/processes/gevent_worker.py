"""The worker of the process test in a process that gevent has patched."""

from __future__ import annotations

from gevent import monkey

# Before anything else, standard input too: reading it must not stop the other threads.
monkey.patch_all(sys=True)

from tests.processes.worker import main  # noqa: E402

if __name__ == "__main__":
    main()
