"""What is taken at the beginning of a block, and given back whatever ends it.

A signal, a time limit, ``PyThreadState_SetAsyncExc`` or a greenlet's end can raise at
any place where Python looks for it: at the beginning of every Python function, after
every call, in every round of a loop.  So also in ``__enter__`` with half of the work
done, and in ``__exit__`` before the first line.
"""

from __future__ import annotations

from typing import Self


class Guard:
    """A context manager that leaves nothing behind, if it is entered twice.

    ``with guard, guard:``, the same object: an exception that strikes while the inner
    exit gives back finds the outer one.  ``_take`` and ``_give_back`` must bear to be
    broken off anywhere: ``_give_back`` is called then, or called again.
    """

    __slots__ = ("_is_over", "_is_taken")

    def __init__(self) -> None:
        self._is_taken = self._is_over = False

    def __enter__(self) -> Self:
        if not self._is_taken:
            try:
                self._take()
            except BaseException as exc:
                self._give_back(exc)
                raise
            self._is_taken = True
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _tb: object) -> None:
        if not self._is_over:
            self._give_back(error)
            self._is_over = True

    def _take(self) -> None:
        """Take what the block needs."""

    def _give_back(self, error: BaseException | None) -> None:
        """Give back what has been taken, of which some may be missing."""
