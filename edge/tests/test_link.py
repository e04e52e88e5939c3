"""The link to the broker: what becomes of messages that the broker lost, or had nobody to give to."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from edge_harness import PASSWORDS, Broker, Platform, wait_for
from roundtable_agent import deliveries
from roundtable_agent.deliveries import NO_MATCHING_SUBSCRIBERS, Delivery, Outbox
from roundtable_agent.link import Link
from roundtable_agent.plan import MqttLogin

TOPIC = "runs/7/0/log"
STORED = "runs/7/0/stored"


@pytest.fixture
def link(broker: Broker) -> Iterator[Link]:
    login = MqttLogin("127.0.0.1", broker.port, False, "aggregator-7", PASSWORDS["aggregator-7"])
    link = Link(login, client_id="link", session_seconds=60, stored=STORED)
    link.start()
    assert link.wait_connected(10)
    yield link
    link.stop()


def body(seq: int) -> bytes:
    return json.dumps({"instance": "a1", "seq": seq}).encode()


def seqs(platform: Platform) -> list[int]:
    return [message["seq"] for name, message in platform.messages if name == TOPIC]


def test_what_nobody_was_there_to_hear_is_sent_again_until_somebody_is(link: Link, broker: Broker) -> None:
    delivery = link.publish(TOPIC, body(1))
    wait_for(lambda: link.unheard == 1)
    assert link.nobody_listens
    assert (delivery.settled, delivery.acknowledged) == (False, False)
    platform = Platform(broker.port)
    assert delivery.wait(10)
    wait_for(lambda: seqs(platform) == [1])
    assert (link.nobody_listens, link.unheard) == (False, 0)
    platform.close()


def test_a_retained_message_needs_nobody_to_hear_it(link: Link) -> None:
    assert link.publish(TOPIC, body(1), retain=True).wait(10)
    assert not link.nobody_listens


def test_after_a_new_connection_what_is_not_stored_is_sent_again(
    link: Link, broker: Broker, platform: Platform
) -> None:
    for seq in (1, 2, 3):
        assert link.publish(TOPIC, body(seq), report=("a1", seq)).wait(10)
    assert link.publish(TOPIC, body(4)).wait(10)
    for broken in (b"{", b"[]", b"{}", b'{"instance": "a1", "seqs": 1}', b'{"instance": "a1", "seqs": ["x"]}'):
        platform.send(STORED, broken)
    platform.send(STORED, {"instance": "b2", "seqs": [1]})
    platform.send(STORED, {"instance": "a1", "seqs": [1, 3], "refused": [{"seq": 3, "reason": "why"}]})
    wait_for(lambda: link.wait_stored(0.0) == 1)
    broker.stop()
    wait_for(lambda: not link.connected)
    broker.start()
    wait_for(lambda: seqs(platform) == [1, 2, 3, 4, 2])
    platform.send(STORED, {"instance": "a1", "seqs": [2]})
    assert link.wait_stored(10.0) == 0


def test_it_keeps_a_bounded_number_and_lets_go_of_what_the_broker_holds_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deliveries, "KEPT_LIMIT", 3)
    outbox = Outbox()
    made = [Delivery(TOPIC, body(seq), report=("a1", seq)) for seq in range(6)]
    for mid, delivery in enumerate(made[:3]):
        outbox.add(delivery)
        outbox.published(delivery, mid)
    outbox.answered(0, NO_MATCHING_SUBSCRIBERS, "")
    outbox.answered(1, 0, "")
    outbox.add(made[3])
    assert (made[1].acknowledged, outbox.unheard) == (True, 1)
    assert caplog.text == ""
    outbox.add(made[4])
    assert "gave up 1 messages that nobody heard" in caplog.text
    outbox.stored("a1", [2, 3, 4])
    assert [delivery.settled for delivery in made] == [False, True, True, True, True, False]
    assert (outbox.unconfirmed, outbox.unheard) == (0, 0)


def test_an_answer_that_comes_before_its_number_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, delivery = Outbox(), Delivery(TOPIC, body(1))
    outbox.add(delivery)
    outbox.answered(5, 135, "Not authorized")
    outbox.published(delivery, 5)
    assert (delivery.settled, delivery.acknowledged, delivery.refused) == (True, False, "reason code 135")
