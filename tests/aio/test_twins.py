"""The two colours are one text: async and await are all that tells them apart."""

from __future__ import annotations

import ast
from difflib import unified_diff
from pathlib import Path

import pytest

import cachebridge

PACKAGE = Path(cachebridge.__file__).parent

RENAMED = {
    "AsyncOperations": "Operations",
    "AsyncGuarded": "Guarded",
    "AsyncLoadRun": "LoadRun",
    "AsyncRefusing": "Refusing",
    "AsyncRedisStore": "RedisStore",
    "AsyncClient": "Client",
    "async_carrier": "carrier",
    "send_async": "send",
    "drive_async": "drive",
    "wait_async": "wait",
    "acquire_async": "acquire",
    "lead_or_follow_async": "lead_or_follow",
    "_lead_or_follow_async": "_lead_or_follow",
}


class Plain(ast.NodeTransformer):
    """Takes async and await out, and gives what has two names its plain one."""

    def __init__(self, renamed):
        self._renamed = renamed

    def visit_AsyncFunctionDef(self, node):
        return self.visit_FunctionDef(ast.FunctionDef(**vars(node)))

    def visit_FunctionDef(self, node):
        node.name = self._renamed.get(node.name, node.name)
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            argument.annotation = None
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_AsyncWith(self, node):
        return self.generic_visit(ast.With(**vars(node)))

    def visit_Await(self, node):
        return self.visit(node.value)

    def visit_Name(self, node):
        node.id = self._renamed.get(node.id, node.id)
        return node

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if node.attr == "aio":  # what an adapter asks for its tasks
            return node.value
        node.attr = self._renamed.get(node.attr, node.attr)
        return node

    def visit_Call(self, node):
        """``exchange(link, ...)`` is ``link.exchange(...)``; and so on."""
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "exchange":
            link, *rest = node.args
            method = ast.Attribute(value=link, attr=name, ctx=ast.Load())
            return ast.Call(func=method, args=rest, keywords=node.keywords)
        if name in {"awaited", "at_once"}:
            return node.args[0]
        if name == "loaded_by":
            return ast.Call(func=node.args[0], args=[], keywords=[])
        return node


def functions_of(path, class_name=None, renamed=RENAMED):
    """Return the plain text of every function of a module, or of one class, by name."""
    tree = ast.parse((PACKAGE / path).read_text())
    found = {}
    for owner in [tree, *[n for n in tree.body if isinstance(n, ast.ClassDef)]]:
        if class_name is not None and getattr(owner, "name", None) != class_name:
            continue
        for node in owner.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                is_async = isinstance(node, ast.AsyncFunctionDef)
                plain = ast.fix_missing_locations(Plain(renamed).visit(node))
                found[plain.name, is_async] = ast.unparse(plain)
    return found


def compare(one, other, what):
    """Fail with the lines in which two functions differ."""
    difference = "\n".join(
        unified_diff(one.splitlines(), other.splitlines(), lineterm="")
    )
    assert not difference, f"{what} differs:\n{difference}"


PAIRS = {
    "engine/sync.py engine/aio.py": {"__init__", "make_operations"},
    "engine/loads.py engine/aloads.py": {"__init__", "_abandon", "consider_refresh"},
    "engine/guarded.py engine/aguarded.py": {"__init__", "_unpaid"},
    "l2/redis.py l2/aredis.py": {"ping", "close", "forget"},
    "l2/memcached/store.py l2/memcached/astore.py": {
        *("ping", "close", "forget"),
        *("send", "owe", "cannot_scan", "has_changed"),
    },
    "l2/carrier.py l2/acarrier.py": {"__init__", "close", "forget"},
    "l2/client.py l2/aclient.py": {"has_scripts"},
}
"""Modules, and what of them is not the same in both."""


@pytest.mark.parametrize("pair", PAIRS)
def test_modules(pair):
    """Every function has its twin, and says the same."""
    apart = PAIRS[pair]
    one, other = (
        {name: text for (name, _), text in functions_of(path).items()}
        for path in pair.split()
    )
    assert one.keys() - apart == other.keys() - apart
    for name in one.keys() - apart:
        compare(one[name], other[name], name)


@pytest.mark.parametrize(
    ("plain", "tasks", "class_name"),
    [
        ("cache.py", "cache.py", "Cache"),
        ("django_backend/backend.py", "django_backend/aio.py", None),
    ],
)
def test_adapters(plain, tasks, class_name):
    """What begins with ``a`` is what stands without it."""
    names = {
        name: name[1:]
        for (name, is_async) in functions_of(tasks, class_name)
        if is_async and name != "adecr"  # Django's own, without the a
    }
    assert len(names) >= 12
    tasks = functions_of(tasks, class_name, RENAMED | names)
    plain = functions_of(plain, class_name)
    for name in names.values():
        compare(plain[name, False], tasks[name, True], name)


FLASK = {
    "backend.py abackend.py": set(),
    "extension.py aextension.py": {"delete_cached"},
    "cached.py acached.py": {"_run_function"},
    "memoize.py amemoize.py": {"_run_function", "_new_run", "make_key"},
    "memoize.py memoize.py": set(),
    "lookup.py lookup.py": set(),
    "callbacks.py callbacks.py": set(),
    "exchanges.py exchanges.py": set(),
}
"""Modules of the Flask adapter, and what of them is not the same in both."""


def plain_name(name):
    """Return ``get`` for ``aget`` and ``_call`` for ``_acall``."""
    return name[1:] if name.startswith("a") else f"_{name[2:]}"


def flask_pairs(pair):
    """Return the plain functions of a pair of modules by the names of their twins."""
    plain, tasks = ({name for name, _ in functions_of(path)} for path in pair)
    return {
        name: plain_name(name)
        for name in tasks
        if name.startswith(("a", "_a")) and plain_name(name) in plain
    }


def test_the_flask_adapter():
    """What begins with ``a`` is what stands without it, in the decorators, too."""
    pairs = {
        tuple(f"flask_ext/{name}" for name in pair.split()): apart
        for pair, apart in FLASK.items()
    }
    renamed = {"amake_cache_key": "make_cache_key"}
    for pair in pairs:
        renamed |= flask_pairs(pair)
    compared = 0
    for pair, apart in pairs.items():
        names = set(flask_pairs(pair).values()) - apart
        plain, tasks = functions_of(pair[0]), functions_of(pair[1], None, renamed)
        for name in names:
            one = plain[name, False]
            other = tasks.get((name, True)) or tasks[name, False]
            compare(one, other, f"{name} of {pair[1]}")
            compared += 1
    assert compared >= 45


def test_within_one_class():
    """Methods of both colours in one class are twins, too."""
    for path, names in {
        "engine/flights.py": {"_lead_or_follow"},
        "waiting.py": {"acquire"},
        "engine/drive.py": set(),
    }.items():
        found = functions_of(path)
        for name in names:
            one, other = found[name, False], found[name, True]
            compare(
                one.replace("may_wait=not is_on_loop()", "may_wait=True"), other, name
            )


def test_a_difference_is_found():
    """The comparison itself: one changed line is reported."""
    found = functions_of("engine/sync.py", "Operations")
    text = found["set", False]
    with pytest.raises(AssertionError, match="set differs"):
        compare(text, text.replace("ttl_ms == 0", "ttl_ms == 1"), "set")
