"""URLs of projects and runs: pages, and the interface of instances. Each views module lists its own."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
