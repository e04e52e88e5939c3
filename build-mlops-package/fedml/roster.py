"""The aggregator's view of its clients: who is there, and what each was last told."""

from __future__ import annotations

import collections
import logging
import time
from dataclasses import dataclass, field

from fedml.control import ControlLink
from fedml.messages import (
    Done,
    DownMessage,
    Failed,
    Finish,
    Lost,
    MessageError,
    Online,
    Result,
    UpMessage,
    Wait,
    decode_up,
)

logger = logging.getLogger(__name__)

REPEAT_SECONDS = 5.0  # until what was asked is answered
HEARTBEAT_SECONDS = 30.0  # to those who have nothing to do
SHOWN_COMPLAINTS = 5  # of one sender


@dataclass
class Member:
    """A client of the run. `index` is its place in the client list, from 1; `absent` says why it takes no part."""

    edge_id: int
    index: int
    online: Online | None = None
    absent: str = ""
    done: bool = False
    order: DownMessage | None = None
    told_at: float = field(default=float("-inf"))


class Roster:
    """Everything that is said between the aggregator and its clients goes through here.

    Orders are repeated until they are answered, on a new connection at once; strangers and garbage are ignored with a
    line in the log.
    """

    def __init__(self, link: ControlLink, run_id: int, edge_ids: tuple[int, ...]) -> None:
        self.members = {edge_id: Member(edge_id, index) for index, edge_id in enumerate(edge_ids, start=1)}
        self._link = link
        self._run_id = run_id
        self._connections = link.connections
        self._complaints: collections.Counter[str] = collections.Counter()

    def tell(self, member: Member, order: DownMessage) -> None:
        """Gives a client an order and remembers it for repetition."""
        member.order = order
        self._repeat(member)

    def next(self, timeout: float) -> tuple[Member, UpMessage] | None:
        """The next valid message of a member, within `timeout` seconds; repeats meanwhile the orders that are due.

        What follows from it for the member's presence is noted before it is returned.
        """
        self._repeat_due()
        received = self._link.receive(timeout)
        if received is None:
            return None
        topic, payload = received
        member = self._sender(topic)
        if member is None:
            return None
        try:
            message = decode_up(payload)
        except MessageError as error:
            self._complain(topic, f"ignored a message of device {member.edge_id}: {error}")
            return None
        if not self._note(member, message):
            return None
        return member, message

    def present(self) -> list[Member]:
        """The members that are online, by index."""
        return [member for member in self.members.values() if member.online is not None and not member.absent]

    def _note(self, member: Member, message: UpMessage) -> bool:
        """Updates the member's presence. False when the message is of an instance that is no more."""
        if isinstance(message, Online):
            if member.online is None:
                logger.info("device %d is online with %d samples", member.edge_id, message.samples)
            elif member.absent or message.instance != member.online.instance:
                logger.info("device %d is back", member.edge_id)
            member.online, member.absent = message, ""
            self._repeat(member)
            return True
        if isinstance(message, Failed):  # also of an instance that failed before it was online
            member.absent = f"it failed: {message.reason}"
            self._link.send(self._topic(member), Finish("heard that it failed"))  # no order: it may start again
            return True
        if member.online is None or message.instance != member.online.instance:
            return False
        if isinstance(message, Lost):
            member.absent = "its connection broke and did not come back"
        elif isinstance(message, Done):
            member.done = True
        else:
            member.absent = ""
            if isinstance(message, Result) and isinstance(member.order, Wait):
                self._repeat(member)  # it did not hear that its result is in
        return True

    def _sender(self, topic: str) -> Member | None:
        """The member whose topic `runs/R/EDGE/fl/up` this is."""
        parts = topic.split("/")
        edge = parts[2] if len(parts) == 5 else ""
        member = self.members.get(int(edge)) if edge.isdecimal() and len(edge) < 19 else None
        if member is None:
            self._complain("strangers", f"ignored a message on {topic:.100}: no device of this run")
        return member

    def _complain(self, subject: str, sentence: str) -> None:
        self._complaints[subject] += 1
        if self._complaints[subject] <= SHOWN_COMPLAINTS:
            logger.warning("%s", sentence)
        if self._complaints[subject] == SHOWN_COMPLAINTS:
            logger.warning("further ones of this sender are not shown")

    def _repeat_due(self) -> None:
        now = time.monotonic()
        reconnected = self._link.connections != self._connections
        self._connections = self._link.connections
        for member in self.members.values():
            if member.order is None or member.absent or member.done:
                continue
            pause = HEARTBEAT_SECONDS if isinstance(member.order, Wait) else REPEAT_SECONDS
            if isinstance(member.order, Finish):
                pause = 1.0
            if reconnected or now - member.told_at >= pause:
                self._repeat(member)

    def _repeat(self, member: Member) -> None:
        if member.order is not None:
            member.told_at = time.monotonic()
            self._link.send(self._topic(member), member.order)

    def _topic(self, member: Member) -> str:
        return f"runs/{self._run_id}/{member.edge_id}/fl/down"
