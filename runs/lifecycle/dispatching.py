"""The commands by which devices open their clients and end them (``docs/protocol.md``, section 3)."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import Any

from django.utils import timezone

from runs.lifecycle.ending import WORKING_STATES
from runs.lifecycle.rendering import run_draft, run_render, synthetic_data_url
from runs.lifecycle.turn import run_turn
from runs.models import Run
from runs.object_store import object_store
from runs.states import InstanceStatus
from runs.tokens import run_token_digest, run_token_make

Command = tuple[int, dict[str, Any]]
"""An edge id and the payload of its command. It holds secrets: publish it, but neither keep nor log it."""


def dispatch_prepare(
    run_id: int, *, image: Mapping[str, Any] | None, edge_ids: Collection[int] | None = None
) -> list[Command]:
    """Give the run's devices their tokens, and return the ``start_train`` commands that are to be published.

    Called again it returns the same commands for those devices of which it is not known yet that they have theirs.

    Args:
        run_id: the run; nothing is returned where it is not under way (any more).
        image: the container image of the clients, where the backend made one.
        edge_ids: these devices only, also where their command was published before.
    """
    with run_turn(run_id) as turn:
        run = turn.run
        if run.state not in WORKING_STATES:
            return []
        waiting = [InstanceStatus.IDLE] if edge_ids is None else [InstanceStatus.IDLE, InstanceStatus.DISPATCHED]
        parts = [part for part in turn.parts(status__in=waiting) if edge_ids is None or part.edge_id in edge_ids]
        tokens = {}
        for part in list(parts):
            if part.device is None or part.device.unbound_at is not None:
                turn.move_device(part, InstanceStatus.FAILED, "The device was unbound before the run reached it.")
                parts.remove(part)
                continue
            tokens[part.edge_id] = run_token_make(run, part.edge_id)
            turn.write(part, token_hash=run_token_digest(tokens[part.edge_id]))
    draft = run_draft(run)
    commands = []
    for part in parts:
        rendered = run_render(draft, part.edge_id)
        package = run.client_package
        payload = {
            "type": "start_train",
            "command_id": f"{run.attempt_id}-{part.edge_id}",
            "run_id": run.pk,
            "edge_id": part.edge_id,
            "token": tokens[part.edge_id],
            "package": {
                "url": f"/api/edge/packages/{package.sha256}",
                "sha256": package.sha256,
                "size": package.size,
            },
            "image": image,
            "config": rendered.config,
            "entry": {"file": rendered.file, "arguments": rendered.arguments},
            "data": {
                "private_path": run.configuration_copy.get("private_data_path") or "",
                "synthetic_url": synthetic_data_url(run.pk, run.configuration_copy),
            },
            "limits": run.limits.get("client", {}),
            "s3": object_store(),
            "log_level": "INFO",
        }
        commands.append((part.edge_id, payload))
    return commands


def dispatch_sent(run_id: int, edge_ids: Collection[int]) -> None:
    """Say that the broker has the ``start_train`` commands of these devices."""
    with run_turn(run_id) as turn:
        now = timezone.now()
        for part in turn.parts(edge_id__in=edge_ids):
            if not turn.move_device(part, InstanceStatus.DISPATCHED, command_sent_at=now):
                turn.write(part, command_sent_at=now)  # it has answered already, or is to stop


def stop_commands(run: Run | None, run_id: int, edge_ids: Collection[int] | None = None) -> list[Command]:
    """Return the ``stop_train`` commands of a run.

    Args:
        run: the run, or None where it was deleted.
        run_id: its id.
        edge_ids: tell these devices, whatever is known of them; else those that are STOPPING.
    """
    if edge_ids is None:
        if run is None:
            return []
        edge_ids = list(run.run_devices.filter(status=InstanceStatus.STOPPING).values_list("edge_id", flat=True))
    reason = run.reason if run else "The run was deleted."
    return [
        (
            edge_id,
            {"type": "stop_train", "command_id": secrets.token_hex(8), "run_id": run_id, "reason": reason[:500]},
        )
        for edge_id in edge_ids
    ]
