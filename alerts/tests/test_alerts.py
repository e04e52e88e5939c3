"""From a finding to the receivers: raised once, told everywhere, tried again, resolved."""

from __future__ import annotations

import json
from datetime import timedelta
from email.message import Message as Mail
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from accounts.tests.objects import make_run
from alerts import delivery, tasks
from alerts.messages import SIGNATURE_HEADER, signature
from alerts.models import Alert, Channel, ChannelKind, Delivery, DeliveryState, Rule, RuleKind
from alerts.tests.receivers import HookReceiver
from runs.models import Project, Run
from runs.states import RunState


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are done where they are sent."""
    monkeypatch.setattr(delivery, "task_send", lambda _, *, delivery_id: tasks.deliver(delivery_id=delivery_id))


def rule_make(project: Project, kind: ChannelKind, target: str) -> tuple[Rule, Channel]:
    channel = Channel.objects.create(project=project, name="ops", kind=kind, target=target)
    rule = Rule.objects.create(project=project, kind=RuleKind.RUN_FAILED)
    rule.channels.add(channel)
    return rule, channel


def run_fail(project: Project) -> Run:
    return make_run(project, state=RunState.FAILED, reason="It <broke> & ended.", ended_at=timezone.now())


def test_a_webhook_is_told_once_with_a_signature_and_again_when_it_is_over(
    project: Project, hook: HookReceiver, settings: Settings
) -> None:
    _, channel = rule_make(project, ChannelKind.WEBHOOK, hook.url)
    run = run_fail(project)
    for _ in range(3):
        tasks.evaluate()
    [(path, headers, body)] = hook.received
    assert path == "/hooks/secret-part"
    assert headers[SIGNATURE_HEADER] == signature(channel.secret, body)
    told = json.loads(body)
    assert told["turn"] == "raised"
    assert told["text"] == "quiet-heron has failed. It <broke> & ended."
    assert told["run"] == {"id": run.pk, "name": "quiet-heron", "state": "FAILED"}
    assert told["url"] == f"{settings.PUBLIC_URL}/runs/{run.pk}/"
    Run.objects.filter(pk=run.pk).update(state=RunState.QUEUED)
    for _ in range(2):
        tasks.evaluate()
    assert [json.loads(body)["turn"] for _, _, body in hook.received] == ["raised", "resolved"]
    Run.objects.filter(pk=run.pk).update(state=RunState.FAILED)
    tasks.evaluate()
    assert [json.loads(body)["turn"] for _, _, body in hook.received] == ["raised", "resolved", "raised"]


def test_a_slack_hook_gets_text_in_which_nothing_is_markup(project: Project, hook: HookReceiver) -> None:
    rule_make(project, ChannelKind.SLACK, hook.url)
    run = run_fail(project)
    tasks.evaluate()
    [(_, _, body)] = hook.received
    text = f"*Digits* quiet-heron has failed. It &lt;broke&gt; &amp; ended. <http://127.0.0.1:8000/runs/{run.pk}/|Open>"
    assert json.loads(body) == {"text": text}


def test_an_email_has_a_subject_of_one_line(project: Project, mails: list[Mail]) -> None:
    project.name = "Digits\nBcc: everybody@example.org"
    project.save()
    rule_make(project, ChannelKind.EMAIL, "ops@example.org")
    run_fail(project)
    tasks.evaluate()
    [mail] = mails
    assert (mail["To"], mail["Bcc"]) == ("ops@example.org", None)
    assert mail["Subject"].startswith("[Digits Bcc: everybody@example.org] quiet-heron has failed.")
    assert "It <broke> & ended." in str(mail.get_payload())


def test_what_did_not_arrive_is_tried_again_and_then_told(project: Project, hook: HookReceiver) -> None:
    _, channel = rule_make(project, ChannelKind.WEBHOOK, hook.url)
    run_fail(project)
    hook.status = 503
    tasks.evaluate()
    [waiting] = Delivery.objects.all()
    problem = "127.0.0.1 answered 503: no such channel."
    assert (waiting.state, waiting.attempts, waiting.problem) == (DeliveryState.WAITING, 1, problem)
    channel.refresh_from_db()
    assert channel.problem == problem
    tasks.evaluate()
    assert len(hook.received) == 1  # it is not due yet
    hook.status = 204
    Delivery.objects.update(due_at=timezone.now())
    tasks.evaluate()
    [told] = Delivery.objects.all()
    assert (told.state, told.attempts, told.problem) == (DeliveryState.TOLD, 2, "")
    channel.refresh_from_db()
    assert (channel.problem, channel.told_at is not None) == ("", True)


def test_pauses_grow_and_an_end_is_made(project: Project, hook: HookReceiver) -> None:
    rule_make(project, ChannelKind.WEBHOOK, hook.url)
    run_fail(project)
    hook.status = 500
    tasks.evaluate()
    [one] = Delivery.objects.all()
    pauses = []
    while one.state == DeliveryState.WAITING:
        pauses.append(round((one.due_at - timezone.now()).total_seconds() / 15))
        Delivery.objects.update(due_at=timezone.now())
        tasks.deliver(delivery_id=one.pk)
        one.refresh_from_db()
    assert one.state == DeliveryState.FAILED
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 960, 960, 960]
    assert timedelta(seconds=15 * sum(pauses)) > timedelta(hours=16)


def test_a_rule_that_cannot_be_looked_at_hurts_no_other(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Rule.objects.create(project=project, kind="unheard of")
    Rule.objects.create(project=project, kind=RuleKind.RUN_FAILED)
    run_fail(project)
    tasks.evaluate()
    assert Alert.objects.count() == 1
    assert "could not be looked at" in caplog.text


def test_a_rule_that_is_off_finds_nothing(project: Project) -> None:
    Rule.objects.create(project=project, kind=RuleKind.RUN_FAILED, enabled=False)
    run_fail(project)
    tasks.evaluate()
    assert not Alert.objects.exists()


def test_open_pages_of_every_member_are_told(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    sent: list[tuple[list[int], dict[str, Any]]] = []
    monkeypatch.setattr("alerts.evaluation.notice_send", lambda users, notice: sent.append((sorted(users), notice)))
    Rule.objects.create(project=project, kind=RuleKind.RUN_FAILED)
    run = run_fail(project)
    tasks.evaluate()
    members = sorted(project.memberships.values_list("user_id", flat=True))
    text = "quiet-heron has failed. It <broke> & ended."
    assert sent == [(members, {"kind": "toast", "level": "warning", "text": text, "url": f"/runs/{run.pk}/"})]
