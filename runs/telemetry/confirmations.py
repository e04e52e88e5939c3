"""What senders are told once their messages are dealt with (``docs/protocol.md``, section 3, ``stored``).

The broker's acknowledgement says only that the broker has a message. Whoever needs to know that it is in the database,
because a broker that is killed forgets what it held, waits for this.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from runs.telemetry.topics import topic_parse

REFUSALS_TOLD = 20  # in one message
_TEXT_LENGTH = 300


class Sender(NamedTuple):
    """Who sent a message, and which: the reporter, the start of its program, and the number within that."""

    run_id: int
    edge_id: int
    instance: str
    seq: int


class Confirmations:
    """Collects, for each reporter of a run, which of its messages were dealt with in one batch."""

    def __init__(self) -> None:
        self._seqs: dict[tuple[int, int, str], list[int]] = {}
        self._refused: dict[tuple[int, int, str], list[tuple[int, str]]] = {}

    def add(self, sender: Sender) -> None:
        """Note a message that is stored, or was stored before."""
        self._seqs.setdefault(sender[:3], []).append(sender.seq)

    def refuse(self, sender: Sender, text: str) -> None:
        """Note a message that will never be stored, and why."""
        self.add(sender)
        self._refused.setdefault(sender[:3], []).append((sender.seq, text[:_TEXT_LENGTH]))

    def messages(self) -> list[tuple[str, bytes]]:
        """Return what to publish: pairs of topic and payload."""
        told: list[tuple[str, bytes]] = []
        for sender, seqs in self._seqs.items():
            run_id, edge_id, instance = sender
            message: dict[str, object] = {"instance": instance, "seqs": seqs}
            if refused := self._refused.get(sender):
                message["refused"] = [{"seq": seq, "reason": text} for seq, text in refused[:REFUSALS_TOLD]]
            told.append((f"runs/{run_id}/{edge_id}/stored", orjson.dumps(message)))
        return told


def sender_read(topic: str, data: bytes) -> Sender | None:
    """Return the sender of a message of a run that was refused unread, as far as the message says it."""
    address = topic_parse(topic)
    if address is None or address.run_id is None:
        return None
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(message, dict):
        return None
    instance, seq = message.get("instance"), message.get("seq")
    if isinstance(instance, str) and 0 < len(instance) <= 64 and isinstance(seq, int) and not isinstance(seq, bool):
        return Sender(address.run_id, address.edge_id, instance, seq)
    return None
