"""Messages between aggregator and clients, and the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fedml import messages
from fedml.arguments import parse_arguments

CORE = Path(__file__).resolve().parents[1] / "mlops-core"
UP: list[messages.UpMessage] = [
    messages.Online("ab", 64, 10, 300),
    messages.Result("ab", 3, "key", "00", 300, {"val_loss": 0.5}),
    messages.Failed("ab", "no disk"),
    messages.Lost("ab"),
    messages.Done("ab"),
]
DOWN: list[messages.DownMessage] = [messages.Train(3, "key", "00", 6), messages.Wait(3), messages.Finish("why")]


def test_messages_arrive_as_they_were_sent() -> None:
    assert [messages.decode_up(messages.encode(message)) for message in UP] == UP
    assert [messages.decode_down(messages.encode(message)) for message in DOWN] == DOWN
    assert json.loads(messages.encode(UP[0]))["type"] == "online"


def test_neither_side_accepts_the_other_sides_messages() -> None:
    for message in UP:
        with pytest.raises(messages.MessageError, match="unknown type"):
            messages.decode_down(messages.encode(message))
    for order in DOWN:
        with pytest.raises(messages.MessageError, match="unknown type"):
            messages.decode_up(messages.encode(order))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(messages.UP)), st.sampled_from(["round", "samples", "metrics", "key", "instance"]), JSON)
@settings(max_examples=150, deadline=None)
def test_a_wrong_field_is_refused_or_harmless(kind: str, name: str, value: object) -> None:
    whole = {"type": kind, "instance": "a", "round": 1, "key": "k", "sha256": "s", "samples": 1, "reason": "r"}
    whole |= {"features": 1, "classes": 1, name: value}
    try:
        message = messages.decode_up(json.dumps(whole).encode())
    except messages.MessageError:
        return
    if isinstance(message, messages.Result):
        assert type(message.round) is int
        assert all(type(number) is float for number in message.metrics.values())


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_garbage_is_refused(payload: bytes) -> None:
    with pytest.raises(messages.MessageError):
        messages.decode_up(payload)


def test_too_much_is_refused() -> None:
    with pytest.raises(messages.MessageError, match="too many"):
        messages.decode_up(b" " * 70_000)
    with pytest.raises(messages.MessageError):
        messages.decode_up(b"[" * 60_000)


def rendered(kind: str, **internal: str) -> list[str]:
    """The entry command's arguments as the platform renders the package's own fedml.yaml."""
    config = yaml.safe_load((CORE / f"fedml-{kind}" / "package" / "conf" / "fedml.yaml").read_text())

    def value(match: re.Match[str]) -> str:
        section, _, key = match[1].partition(".")
        if section.startswith("FEDSYS"):
            return internal.get(match[1][7:], "")
        return str(config[section][key])

    arguments = []
    for name, expression in config["entry_arguments"].items():
        arguments += [f"--{name}", re.sub(r"\$\{([^}]+)\}", value, expression)]
    return arguments


def test_the_packed_configuration_fills_the_command_line(caplog: pytest.LogCaptureFixture) -> None:
    server = parse_arguments(
        rendered(
            "server", CLIENT_NUM="2", CLIENT_ID_LIST="[8, 5]", CLIENT_INDEX="0", RUN_ID="7", IS_USING_LOCAL_DATA="0"
        )
    )
    assert server.is_server
    assert (server.client_id_list, server.client_num, server.silos) == ((8, 5), 2, 4)
    assert (server.model, server.dataset, server.comm_round, server.local_epoch) == ("lr", "digits", 10, 2)
    assert (server.client_learning_rate, server.weight_decay, server.proximal_mu) == (0.1, 0.0001, 0.0)
    client = parse_arguments(
        rendered(
            "client",
            CLIENT_NUM="2",
            CLIENT_ID_LIST="[5]",
            CLIENT_INDEX="2",
            IS_USING_LOCAL_DATA="1",
            PRIVATE_LOCAL_DATA="/data",
        )
    )
    assert not client.is_server
    assert (client.client_index, client.is_using_local_data, client.private_local_data) == (2, True, "/data")
    assert caplog.text == ""


def test_numbers_in_the_packed_configuration_are_numbers() -> None:
    for kind in ("server", "client"):
        config = yaml.safe_load((CORE / f"fedml-{kind}" / "package" / "conf" / "fedml.yaml").read_text())
        text = {name for name, value in config["hyperparameters_config"].items() if isinstance(value, str)}
        assert text == {
            "dataset", "partition_method", "client_optimizer", "federated_optimizer", "communication_backend",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--client_id_list [1] --model resnet", "argument --model: 'resnet' is not known; choose from lr, mlp"),
        ("--client_id_list [1] --comm_round 0", "argument --comm_round: '0' must be a whole number of at least 1"),
        ("--client_id_list [1] --comm_round 2.5", "must be a whole number"),
        ("--client_id_list [1] --client_learning_rate nan", "must be a finite number"),
        ("--client_id_list [1] --partition_alpha 0", "must be a finite number of at least 1e-06"),
        ("--client_id_list [1", "must be a JSON list of edge ids"),
        ("--client_id_list [1,1]", "names a device twice"),
        ("--client_index 0", "--client_id_list names no device"),
        ("--client_index 3 --client_num 2", "--client_index 3 is above --client_num 2"),
        ("--client_index 1 --client_num 2 --is_using_local_data 1", "--private_local_data is empty"),
    ],
)
def test_a_bad_argument_is_named(arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(arguments.split())
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err


def test_unknown_arguments_are_ignored_aloud(caplog: pytest.LogCaptureFixture) -> None:
    settings = parse_arguments(["--client_id_list", "[1]", "--hobby", "chess", "--comm_round", "8.0"])
    assert settings.comm_round == 8
    assert "ignored arguments that this library does not read: --hobby chess" in caplog.text
