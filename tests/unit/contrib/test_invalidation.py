"""``invalidate_on_save``: signals invalidate keys and tags after the commit."""

from __future__ import annotations

import copy
from contextlib import contextmanager

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.cache import caches
from django.db import IntegrityError, connections
from django.db.models import Model, QuerySet, signals
from django.db.transaction import atomic
from django.test.utils import isolate_apps

from cachebridge.contrib.django import invalidate_on_save
from cachebridge.errors import ConfigError
from tests.unit.django.databases import sqlite_files
from tests.unit.django.support import LOCMEM, entry, trusted
from tests.unit.django.test_tags_in_transactions import Tagged

DB = "shop"


@pytest.fixture
def cache(set_caches, place, tmp_path, django_db_blocker):
    """Return a cache, beside a database with the tables of users and groups."""
    set_caches(default=entry(place), other=entry(place, KEY_PREFIX="other"))
    with django_db_blocker.unblock(), sqlite_files(tmp_path, DB):
        with connections[DB].schema_editor() as editor:
            for model in (ContentType, Permission, Group, User, LogEntry):
                editor.create_model(model)
        yield trusted(caches["default"])


@pytest.fixture
def on_save():
    """Return ``invalidate_on_save`` that ends with the test."""
    stops = []
    yield lambda *args, **how: stops.append(invalidate_on_save(*args, **how))
    for stop in stops:
        stop()


@pytest.fixture
def gone(cache):
    """Return a context that tells which keys have gone at its end, sorted."""

    @contextmanager
    def watch(*keys):
        told = []
        cache.set_many(dict.fromkeys(keys, 1))
        yield told
        told.extend(sorted(set(keys) - set(cache.get_many(keys))))

    return watch


def keys_of(user):
    return ["users", f"user:{user.username}"]


def test_save_and_delete(cache, on_save, gone):
    """Of new rows, changed ones and deleted ones; in autocommit at once."""
    on_save(User, keys=keys_of)
    with gone("users", "user:ann", "user:bob") as told:
        ann = User.objects.using(DB).create(username="ann")
    assert told == ["user:ann", "users"]
    with gone("users", "user:ann", "user:bob") as told:
        ann.save()
    assert told == ["user:ann", "users"]
    with gone("users", "user:ann") as told:
        User.objects.using(DB).filter(username="ann").delete()
    assert told == ["user:ann", "users"]


def test_after_the_commit_and_not_after_a_rollback(cache, on_save, gone):
    """By savepoint."""
    on_save(User, keys=keys_of)
    with gone("user:ann", "user:bob") as told:
        with atomic(DB):
            User.objects.using(DB).create(username="ann")
            with pytest.raises(ZeroDivisionError):
                create_and_fail("bob")
        assert User.objects.using(DB).count() == 1
    assert told == ["user:ann"]


@atomic(DB)
def create_and_fail(name):
    User.objects.using(DB).create(username=name)
    raise ZeroDivisionError


def test_tags(cache, on_save):
    """Of every object that has changed, with the commit and one message."""
    on_save(User, tags=lambda user: ["users", f"user:{user.username}"])
    seen = Tagged(cache)
    for name in ("ann", "bob", "eve"):
        seen.set(name, name, tags=[f"user:{name}"])
    with atomic(DB):
        User.objects.using(DB).create(username="ann")
        User.objects.using(DB).create(username="bob")
        assert cache.get_many(["ann", "bob", "eve"]) == {"eve": "eve"}
        sent = cache.stats().messages_sent
    assert cache.get_many(["ann", "bob", "eve"]) == {"eve": "eve"}
    assert cache.stats().messages_sent == sent + 1


def test_lists_and_another_alias(cache, on_save, gone):
    """Names that are the same for every row need no function."""
    on_save(User, keys=["users"], cache="other")
    caches["other"].set("users", 1)
    with gone("users") as told:
        User.objects.using(DB).create(username="ann")
    assert told == []
    assert caches["other"].get("users") is None


def test_what_an_object_moves_away_from(cache, on_save, gone):
    """With ``previous`` the row as it was is asked as well; a new one has none."""
    on_save(User, keys=keys_of, previous=True)
    ann = User.objects.using(DB).create(username="ann")
    with gone("user:ann", "user:eve", "user:bob") as told:
        ann.username = "eve"
        ann.save()
    assert told == ["user:ann", "user:eve"]
    with gone("user:ann", "user:eve") as told:
        ann.save()
    assert told == ["user:eve"]


def test_an_object_whose_save_failed_is_as_before(cache, on_save):
    """It can be pickled and copied, also by this cache."""
    on_save(User, tags=lambda user: [user.username], previous=True)
    User.objects.using(DB).create(username="eve")
    ann = User.objects.using(DB).create(username="ann")
    assert "_cachebridge_previous" not in vars(ann)
    ann.username = "eve"
    with pytest.raises(IntegrityError), atomic(DB):
        ann.save()
    assert copy.deepcopy(ann).username == "eve"
    cache.set("ann", ann)
    assert cache.get("ann") == ann


RELATIONS = {
    "add": lambda user, group: user.groups.add(group),
    "add, from the other side": lambda user, group: group.user_set.add(user),
    "set": lambda user, group: user.groups.set([group]),
}
AWAY = {
    "remove": lambda user, group: user.groups.remove(group),
    "remove, from the other side": lambda user, group: group.user_set.remove(user),
    "clear": lambda user, _group: user.groups.clear(),
    "clear, from the other side": lambda _user, group: group.user_set.clear(),
    "set to nothing": lambda user, _group: user.groups.set([]),
}


@pytest.mark.parametrize("name", [*RELATIONS, *AWAY])
@pytest.mark.parametrize("model", [User, Group])
def test_many_to_many(cache, on_save, gone, model, name):
    """The change of a relation concerns the objects at both of its ends."""
    ann = User.objects.using(DB).create(username="ann")
    User.objects.using(DB).create(username="bob")
    staff = Group.objects.using(DB).create(name="ann")
    if name in AWAY:
        ann.groups.add(staff)
    on_save(model, keys=lambda it: [f"it:{getattr(it, 'username', None) or it.name}"])
    with gone("it:ann", "it:bob") as told, atomic(DB):
        (RELATIONS | AWAY)[name](ann, staff)
        assert caches["default"].get("it:ann") is None
    assert told == ["it:ann"]


@isolate_apps("tests")
def test_proxies_and_subclasses(cache, on_save, gone):
    """Those that there are, and those that are defined later."""

    class Before(User):
        class Meta:
            proxy = True
            app_label = "tests"

    on_save(User, keys=keys_of)

    class After(User):
        class Meta:
            proxy = True
            app_label = "tests"

    for model in (Before, After):
        with gone("user:ann") as told:
            ann = model.objects.using(DB).create(username="ann")
        assert told == ["user:ann"]
        with gone("user:ann") as told:
            model.objects.using(DB).filter(pk=ann.pk).delete()
        assert told == ["user:ann"]


def test_bulk_operations_are_not_covered(cache, on_save, gone):
    """They send no signals; and the fast deletes of other models stay fast."""
    on_save(User, keys=keys_of)
    with gone("users") as told:
        User.objects.using(DB).bulk_create([User(username="ann")])
        User.objects.using(DB).update(first_name="Ann")
    assert told == []
    assert not signals.post_delete.has_listeners(Group)


def test_it_can_be_ended(cache, gone):
    """And leaves no receiver."""
    before = [
        len(each.receivers) for each in vars(signals).values() if _is_signal(each)
    ]
    stop = invalidate_on_save(User, keys=keys_of, previous=True)
    stop()
    after = [len(each.receivers) for each in vars(signals).values() if _is_signal(each)]
    assert before == after
    with gone("users") as told:
        User.objects.using(DB).create(username="ann")
    assert told == []


def _is_signal(it):
    return hasattr(it, "receivers")


def test_under_the_caches_of_tests(cache, on_save, set_caches):
    """Another backend in the alias's place deletes keys, and has no tags."""
    on_save(User, keys=keys_of, tags=["users"])
    set_caches(default={"BACKEND": LOCMEM})
    caches["default"].set("users", 1)
    with atomic(DB):
        User.objects.using(DB).create(username="ann")
        assert caches["default"].get("users") == 1
    assert caches["default"].get("users") is None


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ({}, TypeError, "give it tags, keys or both"),
        ({"tags": "users"}, TypeError, "tags must be a list of str, not 'users'"),
        ({"tags": [""]}, ValueError, r"invalidate_on_save\(User\): a tag must not be"),
        ({"keys": [1]}, TypeError, "keys must be a list of str, it has 1"),
        ({"keys": 1}, TypeError, "keys must be a list of str, not 1"),
        ({"keys": ["a"], "previous": 1}, TypeError, "previous must be True or False"),
        ({"keys": ["a"], "cache": "defualt"}, ConfigError, "mean 'default'"),
        ({"keys": ["a"], "cache": "locmem"}, ConfigError, "not a CacheBridge"),
    ],
)
def test_what_cannot_be_used(set_caches, how, error, text):
    """It is named when the application starts."""
    set_caches(default=entry("memory://names"), locmem={"BACKEND": LOCMEM})
    with pytest.raises(error, match=text):
        invalidate_on_save(User, **how)


def test_what_is_no_model(cache):
    """A name of a model is none, nor is a queryset."""
    for wrong in ("auth.User", QuerySet, User.objects, Model):
        with pytest.raises(TypeError, match="is no model class"):
            invalidate_on_save(wrong, keys=["a"])


def test_names_that_a_function_returns_are_checked(cache, on_save):
    """A single text would be taken for its letters."""
    on_save(User, keys=lambda user: user.username)
    with pytest.raises(
        TypeError, match=r"User\): keys must be a list of str, not 'ann'"
    ):
        User.objects.using(DB).create(username="ann")
