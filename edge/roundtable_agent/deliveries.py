"""Published messages until they are safe: held by the broker for the platform, and stored by the platform."""

import logging
import math
import threading
import time
from collections.abc import Iterable

NO_MATCHING_SUBSCRIBERS = 16  # MQTT 5, section 3.4.2.1: the broker took the message, and nobody was there to hear it
AGAIN_SECONDS = (0.5, 1.0, 2.0, 4.0)  # pauses before what nobody heard is sent again; the last one over and over
KEPT_LIMIT = 1_000  # messages; of more the oldest that the broker holds are let go
KEPT_BYTES = 32 * 2**20

log = logging.getLogger(__name__)

Report = tuple[str, int]  # `instance` and `seq` of a message, by which the platform says that it has stored it


class Delivery:
    """A published message on its way.

    Attributes:
        refused: why the broker did not take it; empty while on its way and when it was taken.
    """

    def __init__(self, topic: str = "", payload: bytes = b"", *, retain: bool = False, report: Report | None = None):
        self.topic = topic
        self.payload = payload
        self.retain = retain
        self.report = report
        self.refused = ""
        self.held = False  # by the broker; others are on their way, or nobody heard them
        self.tries = 0  # how often nobody heard it
        self.again_at = math.inf  # monotonic seconds
        self._settled = threading.Event()

    @property
    def settled(self) -> bool:
        """Whether the broker has answered, and not that nobody was there to hear it."""
        return self._settled.is_set()

    @property
    def acknowledged(self) -> bool:
        """Whether the broker has taken the message, for somebody who hears it."""
        return self._settled.is_set() and not self.refused

    def wait(self, seconds: float) -> bool:
        """Wait for the broker's answer; returns whether it took the message."""
        self._settled.wait(seconds)
        return self.acknowledged

    def settle(self, refused: str = "") -> None:
        """Note the broker's answer."""
        self.refused = refused
        self._settled.set()


class Outbox:
    """Keeps messages until they are safe, and says which have to be sent again. Its methods may meet in any thread.

    What nobody heard is due again after a pause. What the broker holds is kept until the platform has stored it,
    because a broker that was killed has forgotten it: after a new connection all of that is due again.
    """

    def __init__(self) -> None:
        self.heard = False  # somebody was there for one of the messages
        self.confirming = False  # the platform says what it has stored
        self.trusting = False  # it cannot be heard: what the broker holds is given up
        self._lock = threading.Lock()  # never held around a call of the client, whose own locks its callbacks hold
        self._kept: dict[Delivery, None] = {}  # in the order of publishing
        self._size = 0
        self._of: dict[int, Delivery] = {}  # by the client's message id
        self._early: dict[int, int] = {}  # answers that came before the message id was known

    @property
    def unheard(self) -> int:
        """How many messages wait for somebody to hear them."""
        with self._lock:
            return sum(delivery.tries > 0 and not delivery.held for delivery in self._kept)

    @property
    def unconfirmed(self) -> int:
        """How many messages the platform may not have stored; 0 where it does not say what it stores."""
        with self._lock:
            return len(self._kept) if self.confirming else 0

    def add(self, delivery: Delivery) -> None:
        """Keep a message that is about to be published."""
        with self._lock:
            self._kept[delivery] = None
            self._size += len(delivery.payload)
            if len(self._kept) > KEPT_LIMIT or self._size > KEPT_BYTES:
                self._make_room(delivery)

    def published(self, delivery: Delivery, mid: int) -> None:
        """Note the client's message id."""
        with self._lock:
            self._of[mid] = delivery
            early = self._early.pop(mid, None)
        if early is not None:
            self.answered(mid, early, "")

    def drop(self, delivery: Delivery, why: str) -> None:
        """Give a message up that could not be published."""
        with self._lock:
            self._forget(delivery)
        delivery.settle(why)

    def answered(self, mid: int, reason: int, text: str) -> None:
        """Take the broker's answer: its reason code and what that says."""
        with self._lock:
            delivery = self._of.pop(mid, None)
            if delivery is None:
                self._early[mid] = reason
                return
            if reason == NO_MATCHING_SUBSCRIBERS and not delivery.retain:
                if delivery in self._kept:
                    pause = AGAIN_SECONDS[min(delivery.tries, len(AGAIN_SECONDS) - 1)]
                    delivery.again_at = time.monotonic() + pause
                    delivery.tries += 1
                return
            refused = (text or f"reason code {reason}") if reason >= 128 else ""
            delivery.held = not refused
            if not delivery.retain and not refused:
                self.heard = True
            if refused or self.trusting or delivery.report is None:
                self._forget(delivery)
        delivery.settle(refused)

    def stored(self, instance: str, seqs: Iterable[int]) -> None:
        """Forget what the platform has stored, or will never store."""
        reports = {(instance, seq) for seq in seqs}
        with self._lock:
            self.heard = self.confirming = True
            done = [delivery for delivery in self._kept if delivery.report in reports]
            for delivery in done:
                self._forget(delivery)
        for delivery in done:
            delivery.settle()

    def connected(self) -> None:
        """Make everything that the broker held due again: it may have come back without it."""
        with self._lock:
            for delivery in self._kept:
                if delivery.held:
                    delivery.held, delivery.tries, delivery.again_at = False, 0, 0.0

    def take_due(self) -> list[Delivery]:
        """Return what is to be sent again now."""
        now = time.monotonic()
        with self._lock:
            due = [delivery for delivery in self._kept if delivery.again_at <= now]
            for delivery in due:
                delivery.again_at = math.inf
        return due

    def due_in(self) -> float | None:
        """Return in how many seconds something is due again; None for nothing."""
        with self._lock:
            first = min((delivery.again_at for delivery in self._kept), default=math.inf)
        return None if first == math.inf else max(0.0, first - time.monotonic())

    def _make_room(self, newest: Delivery) -> None:
        """Let go of the oldest that the broker holds, and then of the oldest that nobody hears."""
        dropped = 0
        for delivery in sorted(self._kept, key=lambda delivery: not delivery.held):
            if len(self._kept) <= KEPT_LIMIT and self._size <= KEPT_BYTES:
                break
            if delivery.held or (delivery.tries and delivery is not newest):
                dropped += not delivery.held
                self._forget(delivery)
        if dropped:
            log.warning("gave up %d messages that nobody heard: the platform was away too long", dropped)

    def _forget(self, delivery: Delivery) -> None:
        if delivery in self._kept:
            del self._kept[delivery]
            self._size -= len(delivery.payload)
