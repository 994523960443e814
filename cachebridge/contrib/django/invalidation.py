"""Invalidates what was cached of rows when Django's signals tell of their change."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.apps import apps
from django.core.cache import DEFAULT_CACHE_ALIAS, caches
from django.db import models, transaction
from django.db.models import signals

from cachebridge.contrib.django.aliases import required_bridge
from cachebridge.core.keys import named, names_of
from cachebridge.django_backend import CacheBridge

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.dispatch import Signal

_PREVIOUS: Final = "_cachebridge_previous"
"""The attribute of an object that is being saved: it stays after a save that failed.

So it has nothing that the object could not be pickled or copied with.
"""
_M2M_ACTIONS: Final = frozenset({"post_add", "post_remove", "pre_clear"})
"""After ``clear`` the rows that it took away cannot be found any more."""


class _Names(NamedTuple):
    """What is to be invalidated: tags, and keys of the cache."""

    tags: tuple[str, ...]
    keys: tuple[str, ...]


Named = "Iterable[str] | Callable[[Any], Iterable[str]] | None"
"""A list of names, or a function that returns one for an object of the model."""


def invalidate_on_save(
    model: type[models.Model],
    *,
    tags: Iterable[str] | Callable[[Any], Iterable[str]] | None = None,
    keys: Iterable[str] | Callable[[Any], Iterable[str]] | None = None,
    cache: str = DEFAULT_CACHE_ALIAS,
    previous: bool = False,
) -> Callable[[], None]:
    """Invalidate tags and keys when an object of the model is saved or deleted.

    Also when one of its many-to-many relations changes, from either side.  It is done
    after the commit of the object's database, in the alias ``cache`` of CACHES.

    ``tags`` and ``keys`` are lists, or functions that return a list for the object.
    With ``previous`` they are asked for the row as it was before a save as well, which
    is one query for each save: for tags that name what an object can move away from.

    Call it in ``AppConfig.ready()``.  Subclasses and proxies of the model are covered.
    **Not covered** is what sends no signals: ``update``, ``bulk_create``,
    ``bulk_update``, fixtures, raw SQL, and cascades that the database carries out.
    Call ``cache.on_commit.invalidate_tags(...)`` beside these.

    Returns a function that ends it.  Raises TypeError for what is no model, or for
    names that are no list and no function; ValueError for what is no tag, by the save
    if a function returns it; ConfigError for a wrong alias.
    """
    apps.check_models_ready()
    given: Any = model
    is_class = isinstance(given, type) and given is not models.Model
    if not is_class or not issubclass(given, models.Model):
        raise TypeError(f"invalidate_on_save: {model!r} is no model class")
    where = f"invalidate_on_save({model.__name__})"
    if tags is None and keys is None:
        raise TypeError(f"{where}: give it tags, keys or both")
    for role, names in {"tags": tags, "keys": keys}.items():
        if names is not None and not callable(names):
            _checked(where, role, names)
    if not isinstance(previous, bool):
        raise TypeError(f"{where}: previous must be True or False, not {previous!r}")
    required_bridge(where, cache)
    return _Invalidation(model, tags, keys, cache, previous=previous).stop


class _Invalidation:
    """The receivers of one ``invalidate_on_save``.  Thread safe."""

    def __init__(
        self,
        model: type[models.Model],
        tags: Any,
        keys: Any,
        alias: str,
        *,
        previous: bool,
    ) -> None:
        self._model = model
        self._tags = tags
        self._keys = keys
        self._alias = alias
        self._previous = previous
        self._throughs: set[type[models.Model]] = set()
        self._connected: list[tuple[Signal, Any, Any]] = []
        for each in _with_subclasses(model):
            self._connect_model(each)
        self._connect(signals.class_prepared, self._on_class, None)

    def stop(self) -> None:
        """Invalidate nothing any more."""
        while self._connected:
            signal, receiver, sender = self._connected.pop()
            signal.disconnect(receiver, sender=sender)

    # -- signals -----------------------------------------------------------------------

    def _connect(self, signal: Signal, receiver: Any, sender: Any) -> None:
        signal.connect(receiver, sender=sender, weak=False)
        self._connected.append((signal, receiver, sender))

    def _connect_model(self, model: type[models.Model]) -> None:
        # Each class by itself: a receiver for all would end the fast deletes of Django.
        if model._meta.abstract:
            return
        if self._previous:
            self._connect(signals.pre_save, self._before_save, model)
        self._connect(signals.post_save, self._after_save, model)
        self._connect(signals.post_delete, self._after_delete, model)
        for through, field in _relations_of(model).items():
            if through not in self._throughs:
                self._throughs.add(through)
                receiver = partial(self._on_relation, field)
                self._connect(signals.m2m_changed, receiver, through)

    def _on_class(self, sender: type[models.Model], **_more: Any) -> None:
        if issubclass(sender, self._model):
            self._connect_model(sender)

    def _before_save(
        self, sender: Any, instance: Any, using: str, *, raw: bool, **_more: Any
    ) -> None:
        if raw or instance.pk is None:
            return
        row = sender._base_manager.using(using).filter(pk=instance.pk).first()
        if row is not None:
            names = self._names_of(row)
            instance.__dict__.setdefault(_PREVIOUS, {})[id(self)] = names

    def _after_save(
        self, instance: Any, using: str, *, raw: bool, **_more: Any
    ) -> None:
        if raw:
            return
        found = instance.__dict__.get(_PREVIOUS, {})
        before = found.pop(id(self), None)
        if not found:
            instance.__dict__.pop(_PREVIOUS, None)
        self._invalidate(using, self._names_of(instance), before)

    def _after_delete(self, instance: Any, using: str, **_more: Any) -> None:
        self._invalidate(using, self._names_of(instance))

    def _on_relation(
        self,
        field: Any,
        *,
        action: str,
        instance: Any,
        reverse: bool,
        model: type[models.Model],
        pk_set: set[Any] | None,
        using: str,
        **_more: Any,
    ) -> None:
        """Invalidate what the change of a relation concerns, on both of its sides."""
        if action not in _M2M_ACTIONS:
            return
        if isinstance(instance, self._model):
            self._invalidate(using, self._names_of(instance))
        if not issubclass(model, self._model):
            return
        if pk_set is None:
            ends = field.m2m_field_name(), field.m2m_reverse_field_name()
            own, other = reversed(ends) if reverse else ends
            rows = field.remote_field.through._base_manager.using(using)
            pk_set = set(rows.filter(**{own: instance}).values_list(other, flat=True))
        for each in model._base_manager.using(using).filter(pk__in=pk_set):
            self._invalidate(using, self._names_of(each))

    # -- names -------------------------------------------------------------------------

    def _names_of(self, instance: Any) -> _Names:
        return _Names(
            self._ask("tags", self._tags, instance),
            self._ask("keys", self._keys, instance),
        )

    def _ask(self, role: str, names: Any, instance: Any) -> tuple[str, ...]:
        if callable(names):
            names = names(instance)
        where = f"invalidate_on_save({self._model.__name__})"
        return () if names is None else _checked(where, role, names)

    def _invalidate(self, using: str, *every: _Names | None) -> None:
        tags, keys = (
            list(dict.fromkeys(name for names in every if names for name in names[i]))
            for i in (0, 1)
        )
        cache = caches[self._alias]
        if isinstance(cache, CacheBridge):
            if tags:
                cache.on_commit(using).invalidate_tags(*tags)
            if keys:
                cache.on_commit(using).delete_many(keys)
        elif keys:  # other settings, as in tests: there are no tags
            transaction.on_commit(partial(cache.delete_many, keys), using=using)


def _checked(where: str, role: str, names: Any) -> tuple[str, ...]:
    """Return ``tags`` or ``keys`` as a tuple.

    Raises TypeError for what is no list of str, ValueError for what is no tag.
    """
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f"{where}: {role} must be a list of str, not {names!r}")
    listed = tuple(names)
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"{where}: {role} must be a list of str, it has {name!r}")
    if role != "tags":
        return listed
    try:
        return names_of(listed)
    except ValueError as exc:
        raise named(exc, where)  # noqa: B904 the same exception


def _with_subclasses(model: type[models.Model]) -> list[type[models.Model]]:
    found = [model]
    for each in found:
        found += [kind for kind in each.__subclasses__() if kind not in found]
    return found


def _relations_of(model: type[models.Model]) -> dict[type[models.Model], Any]:
    """Return the many-to-many fields from and to the model, by their tables."""
    fields: list[Any] = [*model._meta.many_to_many]
    fields += [each.field for each in model._meta.related_objects if each.many_to_many]
    return {field.remote_field.through: field for field in fields}
