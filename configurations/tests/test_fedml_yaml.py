"""fedml.yaml: what is read, with which types and lines."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurations.fedml_yaml import BYTES_MAX, fedml_yaml_read
from configurations.tests.packages import FEDML_YAML

FILE = "package/conf/fedml.yaml"


def _value(text: str) -> Any:
    read = fedml_yaml_read(f"model_config:\n  v: {text}\nentry_config: {{entry_file: x}}\n".encode(), FILE)
    assert read.problems == []
    return read.model_config[0]["value"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("-3", -3),
        ("0x1F", 31),
        ("1_000", 1000),
        ("0", 0),
        ("0.001", 0.001),
        ("1.0e-3", 0.001),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("lr", "lr"),
        ("'1e-3'", "1e-3"),
        ('"no"', "no"),
        ("'010'", "010"),
        ("!!float 1e-3", 0.001),
        ("!!str 8", "8"),
        ("y", "y"),
        ("=", "="),
        ("${FEDSYS.CLIENT_NUM}", "${FEDSYS.CLIENT_NUM}"),
        ("[64, 32, 'a', null]", [64, 32, "a", None]),
        ("1.2.3", "1.2.3"),
        ("2022", 2022),
        ("v1e-3", "v1e-3"),
        ("|-\n    two\n    lines", "two\nlines"),
    ],
)
def test_a_scalar_keeps_its_type(text: str, value: Any) -> None:
    result = _value(text)
    assert (result, type(result)) == (value, type(value))


def test_rows_and_arguments_have_their_lines_in_order() -> None:
    read = fedml_yaml_read(FEDML_YAML.encode(), FILE)
    assert (read.problems, read.warnings) == ([], [])
    assert read.model_config == [{"name": "modelName", "type": "string", "value": "lr", "line": 2}]
    assert [(row["name"], row["type"], row["value"], row["line"]) for row in read.hyperparameters_config] == [
        ("lr", "float", 0.03, 4),
        ("comm_round", "integer", 10, 5),
        ("client_num_per_round", "string", "${FEDSYS.CLIENT_NUM}", 6),
    ]
    assert (read.entry_file, read.entry_file_line) == ("fedml/main.py", 8)
    assert [(argument.name, argument.line) for argument in read.entry_arguments] == [
        ("model", 10),
        ("lr", 11),
        ("rounds", 12),
        ("clients", 13),
        ("per_round", 14),
    ]


def test_a_byte_order_mark_is_skipped() -> None:
    assert fedml_yaml_read(b"\xef\xbb\xbf" + FEDML_YAML.encode(), FILE).problems == []


def test_the_sections_of_values_may_be_missing_or_empty() -> None:
    read = fedml_yaml_read(b"model_config:\nentry_config:\n  entry_file: x\n", FILE)
    assert (read.problems, read.model_config, read.hyperparameters_config, read.entry_arguments) == ([], [], [], [])


def test_an_unknown_section_is_a_warning_with_the_nearest_name() -> None:
    read = fedml_yaml_read(FEDML_YAML.replace("hyperparameters_config:", "hyperparameter_config:", 1).encode(), FILE)
    assert [(str(warning), warning.line) for warning in read.warnings] == [
        (
            f"{FILE}, line 3: The section hyperparameter_config is not known and is ignored."
            " Did you mean hyperparameters_config?",
            3,
        )
    ]


def test_all_problems_are_reported_not_just_the_first() -> None:
    text = FEDML_YAML.replace("lr: 0.03", "lr: 3e-2").replace("comm_round: 10", "comm_round: 010")
    read = fedml_yaml_read(text.replace("modelName: lr", "modelName: off").encode(), FILE)
    assert [problem.line for problem in read.problems] == [2, 4, 5]


def test_no_more_than_fifty_problems_are_listed() -> None:
    rows = "".join(f"  v{n}: no\n" for n in range(80))
    read = fedml_yaml_read(f"model_config:\n{rows}entry_config: {{entry_file: x}}\n".encode(), FILE)
    assert len(read.problems) == 51
    assert read.problems[-1].message == "There are 30 more problems of this file."


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("1e-3", "Write 1.0e-3"),
        ("1E3", "Write 1.0e+3"),
        ("-2.5e8", "Write -2.5e+8"),
        ("1.e5", "Write 1.0e+5"),
        (".5e5", "Write .5e+5"),
        ("0o17", "Write 15"),
        ("-010", "Write -10 or -8"),
        ("00", "Write 0 or 0"),
    ],
)
def test_the_number_that_the_fix_says_is_read_as_that_number(text: str, fix: str) -> None:
    (problem,) = fedml_yaml_read(
        f"model_config: {{v: {text}}}\nentry_config: {{entry_file: x}}".encode(), FILE
    ).problems
    assert problem.fix.startswith(fix)
    assert isinstance(_value(fix.split()[1]), int | float)


@pytest.mark.parametrize(
    "text",
    [
        "[" * BYTES_MAX,
        "{" * BYTES_MAX,
        "? " * 100_000,
        "- " * 100_000,
        "a: &a\n" * 40_000,
        "!" * BYTES_MAX,
        "'" * 99_999,
    ],
    ids=["brackets", "braces", "keys", "dashes", "anchors", "tags", "quotes"],
)
def test_a_hostile_file_is_answered_quickly(text: str) -> None:
    started = time.perf_counter()
    assert fedml_yaml_read(text.encode()[:BYTES_MAX], FILE).problems != []
    assert time.perf_counter() - started < 10


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab:-[]{}\n #&*!|>'\"%@`?,0123456789.eE_${}\t"), max_size=80))
def test_any_text_is_answered_and_raises_nothing(text: str) -> None:
    fedml_yaml_read(text.encode(), FILE)
    fedml_yaml_read(f"{FEDML_YAML}  x: {text}".encode(), FILE)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered_and_raise_nothing(data: bytes) -> None:
    fedml_yaml_read(data, FILE)
