"""Lines of instances on their way to the platform, and what becomes of them."""

import json
import os
import time
from pathlib import Path

import pytest
from edge_harness import PASSWORDS, Broker, Platform, wait_for
from roundtable_agent import outputs
from roundtable_agent.endings import ending_sentence
from roundtable_agent.link import Link
from roundtable_agent.outputs import OutputFollower, clean_line, last_line
from roundtable_agent.plan import MqttLogin
from roundtable_agent.runtime import Exit

TOPIC = "runs/7/0/log"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"windows\r", "windows"),
        (b" 10%\r 50%\r100%", "100%"),
        (b"caf\xc3\xa9 \xff\xfe", "caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{REPLACEMENT CHARACTER}" + "\ufffd"),
        (b"a\x00b", "a\N{REPLACEMENT CHARACTER}b"),
        (b"x" * 8192, "x" * 8192),
        (b"x" * 8193, "x" * 8186 + " [cut]"),
        (b"\xff" * 8000, "\N{REPLACEMENT CHARACTER}" * 2728 + " [cut]"),
    ],
)
def test_a_line_is_made_fit_to_be_sent(raw: bytes, text: str) -> None:
    assert clean_line(raw) == text
    assert len(text.encode()) <= 8192


def follow(tmp_path: Path, broker: Broker) -> tuple[Link, OutputFollower]:
    login = MqttLogin("127.0.0.1", broker.port, False, "aggregator-7", PASSWORDS["aggregator-7"])
    link = Link(login, client_id="follower", session_seconds=60)
    link.start()
    return link, OutputFollower({"stdout": tmp_path / "stdout.log"}, tmp_path / "log.json", link, TOPIC)


def test_lines_of_any_length_arrive_in_order_within_the_size_of_a_message(
    tmp_path: Path, broker: Broker, platform: Platform
) -> None:
    lines = [f"{i} " + "\x01" * (i * 370 % 9000) for i in range(150)]
    (tmp_path / "stdout.log").write_text("\n".join(lines))
    link, follower = follow(tmp_path, broker)
    follower.start()
    assert follower.finish(20)
    follower.leave()
    link.stop()
    heard = platform.lines(TOPIC)
    assert [line["line"].split(" ")[0] for line in heard] == [str(i) for i in range(150)]
    assert [line["seq"] for line in heard] == list(range(1, 151))
    sizes = [len(json.dumps(message)) for message in platform.heard(TOPIC)]
    assert max(sizes) < 2**20
    assert len(sizes) > 3


def test_a_batch_that_was_on_its_way_is_sent_again_word_for_word(
    tmp_path: Path, broker: Broker, platform: Platform
) -> None:
    output = tmp_path / "stdout.log"
    output.write_text("one\ntwo\n")
    link, follower = follow(tmp_path, broker)
    follower.start()
    wait_for(lambda: platform.lines(TOPIC))
    follower.leave()
    state = json.loads((tmp_path / "log.json").read_text())
    assert state["pending"] == platform.heard(TOPIC)[0]
    with output.open("a") as file:
        file.write("three\n")
    again = OutputFollower({"stdout": output}, tmp_path / "log.json", link, TOPIC)
    again.start()
    assert again.finish(10)
    again.leave()
    link.stop()
    wait_for(lambda: len(platform.messages) == 3)
    raw = [message for _, message in platform.messages]
    assert raw[0] == raw[1]
    assert [line["line"] for line in platform.lines(TOPIC)] == ["one", "two", "three"]


def test_an_output_replaced_by_a_link_is_not_read(tmp_path: Path, broker: Broker, platform: Platform) -> None:
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "stdout.log").symlink_to(tmp_path / "secret")
    link, follower = follow(tmp_path, broker)
    follower.start()
    assert follower.finish(10)
    follower.leave()
    link.stop()
    time.sleep(0.1)
    assert platform.heard(TOPIC) == []
    assert last_line(tmp_path / "stdout.log") == ""
    os.mkfifo(tmp_path / "pipe")
    assert last_line(tmp_path / "pipe") == ""


def test_a_line_without_end_costs_one_line_and_little_memory(
    tmp_path: Path, broker: Broker, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "CHUNK_BYTES", 10_000)
    (tmp_path / "stdout.log").write_text("x" * 1_000_000 + "\nnext\n")
    link, follower = follow(tmp_path, broker)
    follower.start()
    assert follower.finish(10)
    follower.leave()
    link.stop()
    wait_for(lambda: platform.lines(TOPIC))
    assert [line["line"][-5:] for line in platform.lines(TOPIC)] == ["[cut]", "next"]


def test_the_last_words_are_the_last_line_that_is_not_empty(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    path.write_text("Traceback\n" + "y" * 500 + "\n\n  \n")
    assert last_line(path) == "y" * 300
    assert last_line(tmp_path / "missing") == ""


@pytest.mark.parametrize(
    ("ended", "error", "sentence"),
    [
        (Exit(code=1), "", "the client ended with exit code 1"),
        (Exit(code=2), "KeyError: 'x'", "the client ended with exit code 2: KeyError: 'x'"),
        (Exit(signal=15), "", "the client was ended by signal 15 (SIGTERM)"),
        (Exit(code=139), "", "the client was ended by signal 11 (SIGSEGV)"),
        (Exit(code=245), "", "the client was ended by signal 11 (SIGSEGV)"),
        (
            Exit(signal=9),
            "",
            "the client was killed (SIGKILL), by the kernel for want of memory or by somebody on the machine",
        ),
        (Exit(note="cannot start x: No such file"), "x", "the client ended: cannot start x: No such file"),
        (Exit(code=137, out_of_memory=True), "x", "killed by the kernel: the 512 MiB limit was reached"),
    ],
)  # fmt: skip
def test_each_way_to_end_has_its_sentence(ended: Exit, error: str, sentence: str) -> None:
    assert ending_sentence(ended, "the client", 512, error) == sentence
