"""The ingest worker: takes what devices report from the broker and stores it, in batches, each exactly once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from django.db import connection

from devices.presence import presence_apply
from runs import lifecycle
from runs.models import Run
from runs.telemetry.confirmations import Confirmations, Sender, sender_read
from runs.telemetry.database import Database, Stopping
from runs.telemetry.health import Counters, health_forget, health_publish
from runs.telemetry.payloads import PayloadInvalid, PresencePayload, StatusPayload, payload_parse
from runs.telemetry.receiver import Received, Receiver
from runs.telemetry.refusals import Reason, RefusalLog, Refused
from runs.telemetry.reporters import Reporters
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import Report, Stored, report_of, reports_store
from runs.telemetry.topics import Address, topic_parse

logger = logging.getLogger(__name__)

HEALTH_SECONDS = 2.0
RETIRE_QUIET_SECONDS = 2.0


class IngestWorker:
    """One worker. Any number run beside each other, each with a slot of its own (0, 1, 2, ...)."""

    def __init__(self, slot: int) -> None:
        self._slot = slot
        self._receiver = Receiver(slot)
        self._stop = threading.Event()
        self._database = Database(self._stop, self._health_show)
        self._reporters = Reporters()
        self._book = SeriesBook()
        self._refusals = RefusalLog()
        self._counters = Counters(slot)
        self._confirmations = Confirmations()
        self._health_at = 0.0

    def run(self) -> None:
        """Work until ``stop`` is called.

        1. Take what came in within 50 ms, at most 250 messages.
        2. Check each: topic, payload, and whether the sender may report in its run. What fails is counted and logged.
        3. Store the telemetry in one transaction. When that fails halve the batch, and so on, so that one bad message
           costs itself alone. While the database is away, wait.
        4. Apply what devices and aggregators say of themselves, one by one, in the order of arrival.
        5. Tell the senders what is stored, and acknowledge. What is not acknowledged when the process dies, or the
           connection breaks, comes again; it is stored once all the same, and its sender is told again.

        On ``stop`` it finishes with what it holds (unless the database is away) and disconnects; the broker keeps what
        comes in meanwhile.
        """
        self._receiver.start()
        try:
            while not self._stop.is_set():
                self._turn(wait=0.25)
            while self._receiver.waiting:
                self._turn(wait=0.0)
        except Stopping:
            logger.warning("Stopped while the database is away; %d messages stay with the broker", self.waiting)
        finally:
            self._receiver.close()
            connection.close()

    def retire(self) -> None:
        """Store what the broker holds for this slot, and give the slot up, so that the others get its share."""
        self._receiver.start()
        quiet_since = time.monotonic()
        unsubscribed = False
        while not self._stop.is_set() and time.monotonic() - quiet_since < RETIRE_QUIET_SECONDS:
            if self._receiver.connected and not unsubscribed:
                self._receiver.unsubscribe()
                unsubscribed = True
            if not unsubscribed or self._turn(wait=0.2):
                quiet_since = time.monotonic()
                time.sleep(0.0 if unsubscribed else 0.1)
        self._receiver.close(end_session=unsubscribed)
        health_forget(self._slot)
        connection.close()

    def stop(self) -> None:
        """Ask the worker to finish. May be called from a signal handler."""
        self._stop.set()
        self._receiver.stop()

    @property
    def waiting(self) -> int:
        """How many messages were received and not yet stored."""
        return self._receiver.waiting

    def batch_handle(self, messages: Sequence[Received]) -> Confirmations:
        """Check, store and apply messages: steps 2 to 4 of ``run``.

        Returns:
            What to tell the senders.

        Raises:
            Stopping: the database is away and the worker is to stop. Some of the messages may be stored.
        """
        self._confirmations = Confirmations()
        reports: list[tuple[str, Report]] = []
        others: list[tuple[str, Address, PresencePayload | StatusPayload, bool]] = []
        for message in messages:
            try:
                self._check(message, reports, others)
            except Refused as refusal:
                self._refuse(refusal.reason, message.topic, str(refusal), sender_read(message.topic, message.data))
        self._store(reports)
        for topic, address, payload, retained in others:
            sender = _sender_of_status(address, payload) if isinstance(payload, StatusPayload) else None
            self._guarded(topic, sender, partial(self._apply, address, payload, retained))
        return self._confirmations

    @property
    def counters(self) -> Counters:
        """What the worker did so far."""
        counters = self._counters
        counters.received = self._receiver.received
        counters.waiting = self._receiver.waiting
        counters.connected = self._receiver.connected
        counters.database_away_since = self._database.away_since
        counters.refused = {reason.value: count for reason, count in self._refusals.counts.items()}
        return counters

    def _turn(self, wait: float) -> int:
        messages = self._receiver.take(wait)
        if messages:
            began = time.monotonic()
            confirmations = self.batch_handle(messages)
            # In this order: what goes with a connection that breaks goes together, and is done again together.
            self._receiver.publish(confirmations.messages())
            self._receiver.acknowledge(messages)
            self._counters.batches += 1
            self._counters.batch_seconds = time.monotonic() - began
            self._counters.lag_seconds = time.monotonic() - messages[0].at
        self._health_show()
        return len(messages)

    def _health_show(self) -> None:
        if time.monotonic() - self._health_at >= HEALTH_SECONDS:
            self._health_at = time.monotonic()
            health_publish(self.counters)

    def _check(
        self,
        message: Received,
        reports: list[tuple[str, Report]],
        others: list[tuple[str, Address, PresencePayload | StatusPayload, bool]],
    ) -> None:
        address = topic_parse(message.topic)
        if address is None:
            raise Refused(Reason.UNKNOWN_TOPIC, "nothing is known of this topic")
        if not message.data and message.retained:
            return  # a retained message that was cleared
        try:
            payload = payload_parse(address.kind, message.data)
        except PayloadInvalid as error:
            raise Refused(Reason.SCHEMA, str(error)) from None
        if isinstance(payload, PresencePayload):
            others.append((message.topic, address, payload, message.retained))
            return
        if isinstance(payload, StatusPayload):
            self._status_check(address, payload)
            others.append((message.topic, address, payload, message.retained))
            return
        report = report_of(address, payload)
        self._database.work(lambda: self._reporters.check(report.run_id, report.edge_id))
        reports.append((message.topic, report))

    def _status_check(self, address: Address, payload: StatusPayload) -> None:
        if address.run_id is not None and (address.run_id != payload.run_id or address.edge_id != 0):
            raise Refused(Reason.SCHEMA, "the aggregator (edge 0) reports its own status, of the run in the topic")
        if address.run_id is None and address.edge_id == 0:
            raise Refused(Reason.NO_PART, "there is no device 0")
        self._database.work(lambda: self._reporters.check(payload.run_id, address.edge_id, ended_too=True))

    def _store(self, reports: Sequence[tuple[str, Report]]) -> None:
        """Store the reports together, and in halves when one of them cannot be stored."""
        if not reports:
            return
        try:
            stored = self._database.work(lambda: reports_store([report for _, report in reports], self._book))
        except Stopping:
            raise
        except Exception as error:
            self._book.forget()
            self._reporters.forget()
            if len(reports) > 1:
                middle = len(reports) // 2
                self._store(reports[:middle])
                self._store(reports[middle:])
            else:
                self._refuse_for(error, reports[0][0], _sender_of(reports[0][1]))
        else:
            self._count(stored)
            for _, report in reports:
                self._confirmations.add(_sender_of(report))

    def _apply(self, address: Address, payload: PresencePayload | StatusPayload, retained: bool) -> None:
        if isinstance(payload, StatusPayload):
            if address.run_id is None:
                lifecycle.device_status_apply(payload.run_id, address.edge_id, payload)
            else:
                lifecycle.aggregator_status_apply(payload.run_id, payload)
            self._counters.statuses += 1
            return
        if presence_apply(address.edge_id, payload, retained):
            lifecycle.device_presence_changed(address.edge_id)
        if payload.state == "ONLINE" and not retained:
            lifecycle.device_runs_reconcile(address.edge_id, payload.runs)
        self._counters.presences += 1

    def _guarded(self, topic: str, sender: Sender | None, function: Callable[[], None]) -> None:
        try:
            self._database.work(function)
        except Stopping:
            raise
        except Exception as error:
            self._refuse_for(error, topic, sender)
        else:
            if sender is not None:
                self._confirmations.add(sender)

    def _refuse_for(self, error: Exception, topic: str, sender: Sender | None) -> None:
        if isinstance(error, Refused):
            self._refuse(error.reason, topic, str(error), sender)
        elif isinstance(error, Run.DoesNotExist):
            self._refuse(Reason.UNKNOWN_RUN, topic, "the run was deleted", sender)
        else:
            logger.error("A message on %.200r could not be stored", topic, exc_info=error)
            self._refuse(Reason.ERROR, topic, f"{type(error).__name__}", sender)

    def _refuse(self, reason: Reason, topic: str, text: str, sender: Sender | None) -> None:
        self._refusals.add(reason, topic, text)
        if sender is not None:
            self._confirmations.refuse(sender, text)

    def _count(self, stored: Stored) -> None:
        self._counters.stored += stored.messages
        self._counters.duplicate += stored.duplicates
        self._counters.points += stored.points
        self._counters.lines += stored.lines


def _sender_of(report: Report) -> Sender:
    return Sender(report.run_id, report.edge_id, report.payload.instance, report.payload.seq)


def _sender_of_status(address: Address, payload: StatusPayload) -> Sender | None:
    if payload.instance is None or payload.seq is None:
        return None
    return Sender(payload.run_id, address.edge_id, payload.instance, payload.seq)
