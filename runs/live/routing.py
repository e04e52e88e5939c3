"""URLs of the websockets."""

from __future__ import annotations

from typing import Any

from django.urls import path

from runs.live.consumers import RunConsumer, UpdatesConsumer

websocket_urlpatterns: list[Any] = [
    path("ws/runs/<int:run_id>/", RunConsumer.as_asgi()),
    path("ws/updates/", UpdatesConsumer.as_asgi()),
]
