"""A model without a table: it gives the admin its page, and the permissions for it."""

from __future__ import annotations

from django.db import models


class Cache(models.Model):
    """An alias of CACHES; no row of it exists anywhere.

    Not managed, and its app has no migrations, so no database ever gets a table.
    """

    alias = models.CharField(primary_key=True, max_length=255)

    class Meta:
        """Permissions: to see the page, to ask for keys, to throw switches."""

        managed = False
        verbose_name = "cache"
        verbose_name_plural = "caches"
        default_permissions = ("view",)
        permissions = (
            ("inspect_key", "Can ask where a key is"),
            ("clear_cache", "Can clear caches and switch L1"),
        )

    def __str__(self) -> str:
        return self.alias
