"""One failure for several callers: copies that do not grow each other's traceback."""

from __future__ import annotations

import traceback

import pytest

from cachebridge.core.loading import LoaderError
from cachebridge.engine.loading.failures import Failure, copy_of


class FormatsError(Exception):
    """Its ``__init__`` takes something else than it passes on."""

    def __init__(self, name, *, code):
        super().__init__(f"no {name}")
        self.code = code


class SlottedError(Exception):
    __slots__ = ("detail",)


class OwnOSError(OSError):
    def __init__(self, path):
        super().__init__(2, "missing", path)
        self.path = path


class RefusesError(Exception):
    def __new__(cls, *args):
        if cls.made:
            raise TypeError("made once")
        cls.made = True
        return super().__new__(cls, *args)

    made = False


def slotted():
    error = SlottedError("s")
    error.detail = [1]
    return error


CASES = {
    "plain": lambda: ValueError("v", 1),
    "formats": lambda: FormatsError("row", code=7),
    "slotted": slotted,
    "os": lambda: FileNotFoundError(2, "no", "name"),
    "own os": lambda: OwnOSError("p"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    "key": lambda: KeyError("k"),
    "stop": lambda: StopIteration(3),
    "attribute": lambda: AttributeError("a", name="n", obj=1),
    "group": lambda: ExceptionGroup("g", [ValueError(1)]),
    "import": lambda: ImportError("i", name="n", path="p"),
    "refuses": lambda: RefusesError("r"),
}


def raised(error):
    error.add_note("a note")
    try:
        raise error from LookupError("cause")  # noqa: TRY301 it is to have a traceback
    except Exception as exc:
        return exc


@pytest.mark.parametrize("name", CASES)
def test_a_copy_says_the_same(name):
    """Its class, text, attributes, notes and cause are those of the original."""
    error = raised(CASES[name]())
    copied = copy_of(error, error.__traceback__)
    assert copied is not error
    assert type(copied) is type(error)
    assert (str(copied), repr(copied), copied.args) == (
        str(error),
        repr(error),
        error.args,
    )
    assert vars(copied) == vars(error)
    assert copied.__cause__ is error.__cause__
    assert copied.__notes__ == ["a note"]
    for field in ("code", "detail", "errno", "filename", "value", "name", "reason"):
        assert getattr(copied, field, None) == getattr(error, field, None)


class HostileError(Exception):
    """Cannot be copied at all."""

    def __setattr__(self, name, value):
        raise RuntimeError("no")


@pytest.mark.parametrize("kind", [ValueError, HostileError])
def test_each_raise_shows_the_failure_and_its_own_caller(kind):
    """However often a failure is raised again, the traceback stays as long."""
    lengths = set()
    failure = Failure(LoaderError(raised_plainly(kind("x"))))
    for _ in range(5):
        again = failure.again()
        assert isinstance(again, LoaderError)
        with pytest.raises(kind) as caught:
            raise again.error
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert lengths == {2}


def raised_plainly(error):
    try:
        raise error  # noqa: TRY301 as above
    except Exception as exc:
        return exc
