"""Alerts on their way to channels: tried again with growing pauses, told at least once, given up after a day."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from alerts.hooks import HookFailed
from alerts.messages import MailFailed, Message, message_of, message_send
from alerts.models import Channel, Delivery, DeliveryState, Turn
from runs.lifecycle.effects import task_send

DELIVER = "alerts.tasks.deliver"
FIRST_PAUSE_SECONDS = 15
LONGEST_PAUSE_SECONDS = 4 * 3600
ATTEMPTS = 14  # with these pauses, a little more than a day
CLAIM_SECONDS = 60  # longer than one attempt may take
DUE_AT_ONCE = 100


def deliver_later(delivery: Delivery) -> None:
    """Have a delivery tried as soon as the current transaction is committed."""
    task_send(DELIVER, delivery_id=delivery.pk)


def due_send() -> None:
    """Have everything tried that is due: after a failure, or after a worker died over it."""
    due = Delivery.objects.filter(state=DeliveryState.WAITING, due_at__lte=timezone.now()).order_by("due_at")
    for delivery in due[:DUE_AT_ONCE]:
        deliver_later(delivery)


def deliver(delivery_id: int) -> None:
    """Try a delivery, if it waits and is due. Two workers at once try it once."""
    now = timezone.now()
    claimed = Delivery.objects.filter(pk=delivery_id, state=DeliveryState.WAITING, due_at__lte=now).update(
        attempts=F("attempts") + 1, due_at=now + timedelta(seconds=CLAIM_SECONDS)
    )
    if not claimed:
        return
    related = ("alert__rule__project", "alert__run", "alert__device", "channel")
    delivery = Delivery.objects.select_related(*related).get(pk=delivery_id)
    problem = channel_tell(delivery.channel, message_of(delivery.alert, Turn(delivery.turn)))
    now = timezone.now()
    mine = Delivery.objects.filter(pk=delivery_id, attempts=delivery.attempts)
    if not problem:
        mine.update(state=DeliveryState.TOLD, told_at=now, problem="")
    elif delivery.attempts >= ATTEMPTS:
        mine.update(state=DeliveryState.FAILED, problem=problem)
    else:
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (delivery.attempts - 1), LONGEST_PAUSE_SECONDS)
        mine.update(due_at=now + timedelta(seconds=pause), problem=problem)


def channel_tell(channel: Channel, message: Message) -> str:
    """Tell a channel, and note how it went; return what was wrong, or nothing."""
    try:
        message_send(channel, message)
    except (HookFailed, MailFailed) as error:
        Channel.objects.filter(pk=channel.pk).update(problem=str(error))
        return str(error)
    Channel.objects.filter(pk=channel.pk).update(problem="", told_at=timezone.now())
    return ""


def channel_test(channel: Channel) -> str:
    """Send a test to a channel; return what was wrong, or nothing."""
    url = settings.PUBLIC_URL + channel.project.get_absolute_url()
    text = f"A test of {channel.name}. Alerts of this project are told here."
    facts = {"project": {"id": channel.project_id, "name": channel.project.name}, "time": timezone.now().timestamp()}
    return channel_tell(channel, Message("test", channel.project.name, text, url, facts))
