"""What the shop sells, and what its customers say about it."""

from __future__ import annotations

from django.db import models
from django.db.models import Avg, Count


class Category(models.Model):
    """A shelf of the shop."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=40)
    tagline = models.CharField(max_length=120)
    icon = models.CharField(max_length=20)

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    """A thing with a price. ``specs`` is a list of (name, value) pairs."""

    category = models.ForeignKey(
        Category, on_delete=models.CASCADE, related_name="products"
    )
    sku = models.CharField(max_length=12, unique=True)
    name = models.CharField(max_length=80)
    description = models.TextField()
    specs = models.JSONField(default=list)
    hue = models.PositiveSmallIntegerField()
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name", "pk")

    def __str__(self) -> str:
        return self.name


class ReviewQuerySet(models.QuerySet["Review"]):
    """Reviews that can be summed up."""

    def summary(self) -> dict[str, float]:
        """Return the number of reviews and the mean of their stars."""
        return self.aggregate(count=Count("pk"), mean=Avg("stars"))


class Review(models.Model):
    """A customer's opinion, one to five stars."""

    product = models.ForeignKey(
        Product, on_delete=models.CASCADE, related_name="reviews"
    )
    author = models.CharField(max_length=60)
    stars = models.PositiveSmallIntegerField()
    text = models.CharField(max_length=200)
    written_on = models.DateField()

    objects = ReviewQuerySet.as_manager()

    class Meta:
        ordering = ("-written_on", "pk")

    def __str__(self) -> str:
        return f"{self.author} on {self.product}"
