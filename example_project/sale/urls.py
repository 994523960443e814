"""The addresses of the sale."""

from __future__ import annotations

from django.urls import path

from example_project.sale import views

urlpatterns = [
    path("", views.activity, name="sale"),
    path("<int:number>/buy/", views.buy, name="sale-buy"),
    path("<int:number>/stock/", views.stock, name="sale-stock"),
    path("<int:number>/mine/", views.mine, name="sale-mine"),
    path("<int:number>/mine/<int:purchase>/return/", views.give_back, name="sale-back"),
    path("<int:number>/lists/", views.lists, name="sale-lists"),
    path("<int:number>/lists/change/", views.change_lists, name="sale-lists-change"),
    path("<int:number>/figures/", views.figures, name="sale-figures"),
    path("<int:number>/orders/", views.orders, name="sale-orders"),
    path("<int:number>/audit/", views.audit, name="sale-audit"),
]
