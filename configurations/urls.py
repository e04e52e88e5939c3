"""URLs of packages and configurations."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
