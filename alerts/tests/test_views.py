"""The pages of alerts: who may see and change what."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.tests.objects import make_project, make_run, make_user
from alerts.models import Alert, Channel, ChannelKind, Rule, RuleKind
from alerts.tests.receivers import HookReceiver
from runs.models import Project


def as_user(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


@pytest.fixture
def channel(project: Project) -> Channel:
    return Channel.objects.create(
        project=project, name="ops", kind=ChannelKind.SLACK, target="https://hooks.example.org/services/T1/written-here"
    )


@pytest.fixture
def rule(project: Project, channel: Channel) -> Rule:
    rule = Rule.objects.create(project=project, kind=RuleKind.DEVICE_OFFLINE, minutes=10)
    rule.channels.add(channel)
    return rule


@pytest.fixture
def alert(project: Project, rule: Rule) -> Alert:
    run = make_run(project)
    return Alert.objects.create(rule=rule, subject=f"run:{run.pk}", run=run, text="quiet-heron has <failed>.")


CHANGES = ["rule_create", "rule_edit", "rule_switch", "rule_delete", "channel_create", "channel_test", "channel_delete"]


def addresses(project: Project, rule: Rule, channel: Channel, alert: Alert) -> dict[str, str]:
    ids = {"rule_edit": [rule.pk], "rule_switch": [rule.pk], "rule_delete": [rule.pk], "alert_seen": [alert.pk]}
    ids |= {"channel_test": [channel.pk], "channel_delete": [channel.pk]}
    return {
        name: reverse(name, args=[project.pk, *ids.get(name, [])]) for name in ["alert_list", "alert_seen", *CHANGES]
    }


@pytest.mark.parametrize(("name", "seen", "changed"), [("mallory", 404, 404), ("vera", 200, 403)])
def test_strangers_see_nothing_and_viewers_change_nothing(
    project: Project, rule: Rule, channel: Channel, alert: Alert, name: str, seen: int, changed: int
) -> None:
    make_user("mallory")
    paths = addresses(project, rule, channel, alert)
    client = as_user(name)
    assert client.get(paths.pop("alert_list")).status_code == seen
    assert {client.post(path).status_code for path in paths.values()} == {changed}
    assert (Rule.objects.count(), Channel.objects.count(), Alert.objects.filter(seen_at=None).count()) == (1, 1, 1)


def test_what_belongs_to_another_project_is_not_found(
    ada: User, project: Project, rule: Rule, channel: Channel, alert: Alert
) -> None:
    other = make_project(ada, "Other")
    paths = addresses(other, rule, channel, alert)
    client = as_user("ada")
    for name in ("rule_edit", "rule_switch", "rule_delete", "channel_test", "channel_delete", "alert_seen"):
        assert client.post(paths[name]).status_code == 404
    form = {"kind": "run_failed", "channels": [channel.pk]}
    assert client.post(reverse("rule_create", args=[other.pk]), form).status_code == 302
    assert not other.rules.get().channels.exists()


def test_the_page_shows_what_is_open_and_hides_the_secret_part_of_hooks(project: Project, alert: Alert) -> None:
    page = as_user("vera").get(reverse("alert_list", args=[project.pk])).content.decode()
    assert "quiet-heron has &lt;failed&gt;." in page
    assert "A device is offline for 10 minutes" in page
    assert "hooks.example.org" in page
    assert "written-here" not in page
    assert "Put aside" not in page


def test_the_page_says_what_rules_are_for_when_there_is_none(project: Project) -> None:
    page = as_user("grace").get(reverse("alert_list", args=[project.pk])).content.decode()
    assert "Nothing is watched yet" in page
    assert page.count(f'href="{reverse("rule_create", args=[project.pk])}"') == 2


def test_an_alert_is_put_aside_with_a_name_to_it(project: Project, alert: Alert) -> None:
    client = as_user("grace")
    client.post(reverse("alert_seen", args=[project.pk, alert.pk]))
    alert.refresh_from_db()
    assert (alert.seen_by, alert.resolved_at) == (User.objects.get(username="grace"), None)
    context = client.get(reverse("alert_list", args=[project.pk])).context
    assert (list(context["open_alerts"]), list(context["past"])) == ([], [alert])


def test_a_rule_keeps_only_what_its_kind_asks_for(project: Project, channel: Channel) -> None:
    form = {"kind": "metric_stalled", "minutes": "x", "metric": "test_loss", "direction": "min", "rounds": "5"}
    answer = as_user("grace").post(reverse("rule_create", args=[project.pk]), form | {"channels": [channel.pk]})
    assert answer.status_code == 302
    rule = project.rules.get()
    assert (rule.minutes, rule.metric, rule.direction, rule.rounds) == (None, "test_loss", "min", 5)
    assert str(rule) == "test_loss does not improve for 5 rounds"
    assert list(rule.channels.all()) == [channel]


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"kind": "metric_stalled", "rounds": "5"}, "metric"),
        ({"kind": "device_offline"}, "minutes"),
        ({"kind": "round_late", "minutes": "0"}, "minutes"),
        ({"kind": "unheard of"}, "kind"),
    ],
)
def test_a_rule_that_lacks_something_is_not_made(project: Project, form: dict[str, str], field: str) -> None:
    answer = as_user("grace").post(reverse("rule_create", args=[project.pk]), form)
    assert list(answer.context["form"].errors) == [field]
    assert not project.rules.exists()


@pytest.mark.parametrize(
    ("kind", "target", "field"),
    [
        ("webhook", "hooks.example.org/x", "target"),
        ("slack", "javascript:alert(1)", "target"),
        ("webhook", "https://example.org/a b", "target"),
        ("email", "ops@example.org", "kind"),
    ],
)
def test_a_channel_that_leads_nowhere_is_not_made(project: Project, kind: str, target: str, field: str) -> None:
    form = {"name": "ops", "kind": kind, "target": target}
    answer = as_user("grace").post(reverse("channel_create", args=[project.pk]), form)
    assert list(answer.context["form"].errors) == [field]
    assert not project.channels.exists()


def test_the_secret_of_a_webhook_is_shown_once_and_a_test_says_how_it_went(
    project: Project, hook: HookReceiver
) -> None:
    client = as_user("grace")
    made = client.post(
        reverse("channel_create", args=[project.pk]), {"name": "ops", "kind": "webhook", "target": hook.url}
    )
    channel = project.channels.get()
    assert channel.secret in made.content.decode()
    listed = reverse("alert_list", args=[project.pk])
    assert channel.secret not in client.get(listed).content.decode()
    for status, sentence in (
        (200, "ops has taken the test."),
        (500, "The test did not arrive. 127.0.0.1 answered 500"),
    ):
        hook.status = status
        client.post(reverse("channel_test", args=[project.pk, channel.pk]))
        assert sentence in client.get(listed).content.decode()
    assert len(hook.received) == 2


def test_deleting_a_channel_keeps_its_rules(project: Project, rule: Rule, channel: Channel) -> None:
    client = as_user("grace")
    client.post(reverse("rule_switch", args=[project.pk, rule.pk]))
    client.post(reverse("channel_delete", args=[project.pk, channel.pk]))
    rule.refresh_from_db()
    assert (rule.enabled, list(rule.channels.all())) == (False, [])
    client.post(reverse("rule_switch", args=[project.pk, rule.pk]), {"enabled": "on"})
    rule.refresh_from_db()
    assert rule.enabled
    client.post(reverse("rule_delete", args=[project.pk, rule.pk]))
    assert not project.rules.exists()


def test_rows_without_end_are_paged(project: Project, rule: Rule) -> None:
    now = timezone.now()
    Alert.objects.bulk_create(
        Alert(rule=rule, subject=f"run:{i}", text=f"alert {i}", resolved_at=now) for i in range(60)
    )
    page = as_user("vera").get(reverse("alert_list", args=[project.pk]), {"page": 3})
    assert len(page.context["past"]) == 10
