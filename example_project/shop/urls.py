"""The addresses of the shop."""

from __future__ import annotations

from django.urls import path

from example_project.shop import views
from example_project.shop.slow_report import slow_report

urlpatterns = [
    path("", views.home, name="home"),
    path("products/", views.catalogue, name="catalogue"),
    path("category/<slug:slug>/", views.catalogue, name="category"),
    path("products/<int:pk>/", views.product, name="product"),
    path("products/<int:pk>/price/", views.price, name="price"),
    path("cart/", views.cart, name="cart"),
    path("cart/<int:pk>/add/", views.cart_add, name="cart-add"),
    path("cart/<int:pk>/", views.cart_put, name="cart-put"),
    path("stats/", views.stats, name="stats"),
    path("slow-report/<slug:name>/", slow_report, name="slow-report"),
]
