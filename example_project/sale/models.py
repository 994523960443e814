"""What must not be lost: the sale's terms, its lists, and every purchase.

The counters that decide a purchase are in the cache. ``manage sale recount`` makes them
anew from these tables.
"""

from __future__ import annotations

from django.db import models

from example_project.shop.models import Product


class Activity(models.Model):
    """A sale of so many pieces of one product. ``lists_version`` counts changes."""

    product = models.ForeignKey(Product, on_delete=models.CASCADE)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    delivered = models.PositiveIntegerField()
    per_user = models.PositiveSmallIntegerField()
    opens_at = models.DateTimeField()
    closes_at = models.DateTimeField(null=True)
    invited_only = models.BooleanField(default=False)
    lists_version = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ("-pk",)
        verbose_name_plural = "activities"

    def __str__(self) -> str:
        return f"sale {self.pk}"


class Listed(models.Model):
    """A user whom a sale refuses, or who is invited to it."""

    class Kind(models.TextChoices):
        DENY = "deny"
        ALLOW = "allow"

    activity = models.ForeignKey(Activity, on_delete=models.CASCADE)
    user = models.CharField(max_length=40)
    kind = models.CharField(max_length=5, choices=Kind)

    class Meta:
        ordering = ("user",)
        constraints = (
            models.UniqueConstraint("activity", "user", name="sale_one_list_per_user"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.user}"


class Purchase(models.Model):
    """One piece, sold."""

    activity = models.ForeignKey(
        Activity, on_delete=models.CASCADE, related_name="purchases"
    )
    user = models.CharField(max_length=40)
    bought_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("pk",)
        indexes = (models.Index("activity", "user", name="sale_of_user"),)

    def __str__(self) -> str:
        return f"{self.user} in {self.activity_id}"
