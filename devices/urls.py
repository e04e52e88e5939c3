"""URLs of devices: pages, and the interface of agents."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
