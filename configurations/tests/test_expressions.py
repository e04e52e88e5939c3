"""Expressions: both spellings, types, chains, and that data is never expanded."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurations.expressions import (
    PRIVATE_LOCAL_DATA_TOKEN,
    VARIABLES,
    ExpressionError,
    InternalVariables,
    render_collect,
    render_entry,
)
from configurations.rows import Row, Value, row_type, value_parse, value_text

RUN = InternalVariables(
    run_id=7,
    client_num=3,
    client_id_list=[4, 5, 9],
    client_index=0,
    client_object_list=[{"id": 4, "os_type": "Linux"}],
    private_local_data="/data/digits",
    synthetic_data_url="https://host/data.npz",
    is_using_local_data=1,
    log_server_url="https://host/logs",
)


def _rows(**values: Value) -> list[Row]:
    return [{"name": name, "type": row_type(value), "value": value} for name, value in values.items()]


def _manifest(**arguments: Any) -> dict[str, Any]:
    return {
        "kind": "server",
        "root": "package",
        "entry_file": "fedml/main.py",
        "model_config": [],
        "hyperparameters_config": [],
        "entry_arguments": [
            {"name": name, "value": value, "line": line} for line, (name, value) in enumerate(arguments.items(), 1)
        ],
    }


def _render(argument: Any, variables: InternalVariables = RUN, **hyperparameters: Any) -> Any:
    rendered = render_entry(_manifest(x=argument), _rows(model="lr"), _rows(**hyperparameters), variables)
    return rendered.config["entry_arguments"]["x"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RUN_ID", 7),
        ("CLIENT_NUM", 3),
        ("CLIENT_ID_LIST", [4, 5, 9]),
        ("CLIENT_INDEX", 0),
        ("CLIENT_OBJECT_LIST", [{"id": 4, "os_type": "Linux"}]),
        ("PRIVATE_LOCAL_DATA", "/data/digits"),
        ("SYNTHETIC_DATA_URL", "https://host/data.npz"),
        ("IS_USING_LOCAL_DATA", 1),
        ("LOG_SERVER_URL", "https://host/logs"),
    ],
)
@pytest.mark.parametrize("spelling", ["${FEDSYS.%s}", "${FEDSYS_%s}", "${ FEDSYS.%s }"])
def test_internal_variables_have_two_spellings_and_keep_their_type(name: str, value: Any, spelling: str) -> None:
    assert _render(spelling % name) == value


def test_every_internal_variable_is_known() -> None:
    assert tuple(RUN.values()) == VARIABLES


@pytest.mark.parametrize("value", ["text", 8, 0.001, 1e-7, True, False, None, [1, "a", None, 2.5], ""])
def test_a_reference_that_is_the_whole_value_keeps_its_type(value: Value) -> None:
    result = _render("${hyperparameters_config.v}", v=value)
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [(8, "8"), (0.001, "0.001"), (True, "true"), (False, "false"), (None, ""), ([1, "a"], '[1,"a"]'), ("é", "é")],
)
def test_a_reference_inside_text_becomes_text(value: Value, text: str) -> None:
    assert _render("<${hyperparameters_config.v}>", v=value) == f"<{text}>"


def test_arguments_are_a_list_of_names_and_texts() -> None:
    manifest = _manifest(
        model="${model_config.model}",
        rate="${hyperparameters_config.lr}",
        ids="${FEDSYS_CLIENT_ID_LIST}",
        fast=True,
        nothing=None,
        fixed="a b; rm -rf /",
    )
    rendered = render_entry(manifest, _rows(model="lr"), _rows(lr=0.03), RUN)
    assert rendered.file == "fedml/main.py"
    assert rendered.arguments == [
        "--model", "lr", "--rate", "0.03", "--ids", "[4,5,9]", "--fast", "true", "--nothing", "",
        "--fixed", "a b; rm -rf /",
    ]  # fmt: skip
    assert rendered.config == {
        "model_config": {"model": "lr"},
        "hyperparameters_config": {"lr": 0.03},
        "entry_config": {"entry_file": "fedml/main.py"},
        "entry_arguments": {
            "model": "lr",
            "rate": 0.03,
            "ids": [4, 5, 9],
            "fast": True,
            "nothing": None,
            "fixed": "a b; rm -rf /",
        },
    }
    assert rendered.resolved[1] == {"name": "rate", "raw": "${hyperparameters_config.lr}", "value": "0.03"}


@pytest.mark.parametrize("value", [-0.5, -3, "-1e-05", "--model=evil", "-"])
def test_a_value_that_begins_with_a_dash_cannot_be_taken_for_an_option(value: Value) -> None:
    rendered = render_entry(_manifest(x="${hyperparameters_config.v}"), [], _rows(v=value), RUN)
    assert rendered.arguments == [f"--x={value_text(value)}"]


def test_values_may_refer_to_each_other() -> None:
    assert _render("${hyperparameters_config.a}", a="${model_config.model}-${hyperparameters_config.b}", b=5) == "lr-5"


def test_elements_of_lists_are_resolved() -> None:
    assert _render("${hyperparameters_config.v}", v=["${FEDSYS.RUN_ID}", "x"]) == [7, "x"]


def test_the_rows_of_a_run_win_over_the_package() -> None:
    manifest = {**_manifest(x="${model_config.model}"), "model_config": _rows(model="from the package")}
    rendered = render_entry(manifest, _rows(model="edited"), [], RUN)
    assert (rendered.arguments, rendered.config["model_config"]) == (["--x", "edited"], {"model": "edited"})


def test_what_an_internal_variable_holds_is_never_expanded() -> None:
    evil = "${FEDSYS.RUN_ID}"
    variables = dataclasses.replace(RUN, private_local_data=evil)
    assert _render("${FEDSYS.PRIVATE_LOCAL_DATA}", variables) == evil
    assert _render("x${hyperparameters_config.p}", variables, p="${FEDSYS.PRIVATE_LOCAL_DATA}") == f"x{evil}"


def test_the_private_path_may_be_the_token_that_the_agent_replaces() -> None:
    variables = dataclasses.replace(RUN, private_local_data=PRIVATE_LOCAL_DATA_TOKEN)
    assert _render("${FEDSYS_PRIVATE_LOCAL_DATA}/train", variables) == "${FEDSYS.PRIVATE_LOCAL_DATA}/train"


def test_no_other_variable_can_smuggle_that_token_to_the_agent() -> None:
    variables = dataclasses.replace(
        RUN,
        synthetic_data_url=f"https://host/{PRIVATE_LOCAL_DATA_TOKEN}",
        log_server_url=PRIVATE_LOCAL_DATA_TOKEN,
        client_object_list=[{"id": 4, "os_type": PRIVATE_LOCAL_DATA_TOKEN}],
    )
    texts = [_render(f"${{FEDSYS.{name}}}", variables) for name in ("SYNTHETIC_DATA_URL", "LOG_SERVER_URL")]
    assert texts == ["https://host/%24{FEDSYS.PRIVATE_LOCAL_DATA}", "%24{FEDSYS.PRIVATE_LOCAL_DATA}"]
    assert _render("${FEDSYS.CLIENT_OBJECT_LIST}", variables) == [{"id": 4, "os_type": "$_{FEDSYS.PRIVATE_LOCAL_DATA}"}]


def _error(argument: Any, **hyperparameters: Any) -> ExpressionError:
    with pytest.raises(ExpressionError) as error:
        _render(argument, **hyperparameters)
    return error.value


def test_an_error_of_the_package_names_file_line_and_fix() -> None:
    error = _error("${hyperparameters_config.comm_rond}", comm_round=3)
    assert (error.file, error.line) == ("server package: package/conf/fedml.yaml", 1)
    assert error.message == (
        "hyperparameters_config has no value named comm_rond, to which ${hyperparameters_config.comm_rond} refers."
    )
    assert error.fix == "Did you mean ${hyperparameters_config.comm_round}?"


def test_an_error_of_a_row_names_the_row() -> None:
    error = _error("${hyperparameters_config.a}", a="${FEDSYS.RUNID}")
    assert (error.file, error.line) == ("hyperparameters_config.a", None)
    assert error.fix == "Did you mean ${FEDSYS.RUN_ID}?"


@pytest.mark.parametrize(
    ("reference", "fix"),
    [
        ("${hyperparameter_config.lr}", "Did you mean ${hyperparameters_config.lr}?"),
        ("${model_config.lr}", "Did you mean ${hyperparameters_config.lr}?"),
        ("${model_config.}", "Did you mean ${model_config.model}?"),
        ("${}", "Write ${model_config.NAME}, ${hyperparameters_config.NAME} or ${FEDSYS.NAME}."),
        ("${FEDSYS.CLIENT_NUMBER}", "Did you mean ${FEDSYS.CLIENT_NUM}?"),
        ("${FEDSYS_X}", "The internal variables are RUN_ID, CLIENT_NUM"),
        ("${hyperparameters_config.zzz}", "Add a value named zzz to hyperparameters_config"),
        ("a ${FEDSYS.RUN_ID", "Write a } at its end"),
        ("${FEDSYS.${FEDSYS.RUN_ID}}", "expressions cannot stand inside each other"),
    ],
)
def test_the_fix_says_what_to_write(reference: str, fix: str) -> None:
    assert fix in _error(reference, lr=0.1).fix


def test_a_row_that_was_removed_is_named_as_such() -> None:
    manifest = {**_manifest(x="${model_config.m}"), "model_config": _rows(m=1)}
    with pytest.raises(ExpressionError) as error:
        render_entry(manifest, [], [], RUN)
    assert error.value.fix == "Add the value m again."


def test_a_circle_is_one_error_with_its_path() -> None:
    rows = _rows(a="${hyperparameters_config.b}", b="x${hyperparameters_config.c}", c="${hyperparameters_config.a}")
    _, errors = render_collect(_manifest(x="${hyperparameters_config.b}"), [], rows, RUN)
    assert [error.message for error in errors] == [
        "The values refer to each other in a circle: hyperparameters_config.a -> hyperparameters_config.b"
        " -> hyperparameters_config.c -> hyperparameters_config.a."
    ]


def test_a_long_chain_is_refused_before_it_recurses_too_deep() -> None:
    rows = _rows(**{f"v{n}": f"${{hyperparameters_config.v{n + 1}}}" for n in range(149)}, v149=1)
    _, errors = render_collect(_manifest(), [], rows, RUN)
    assert {error.message for error in errors} == {"More than 50 values refer to one another in a row."}


def test_all_errors_are_collected() -> None:
    manifest = _manifest(a="${x}", b="${FEDSYS.y}", c="${model_config.z}")
    _, errors = render_collect(manifest, [], [], RUN)
    assert [error.line for error in errors] == [1, 2, 3]


def test_an_argument_that_no_program_can_be_given_is_refused() -> None:
    objects = [{"id": number, "os_type": "x" * 100} for number in range(2000)]
    manifest = _manifest(devices="${FEDSYS.CLIENT_OBJECT_LIST}")
    _, errors = render_collect(manifest, [], [], dataclasses.replace(RUN, client_object_list=objects))
    assert [error.message for error in errors] == [
        "The argument --devices comes to more than 130816 bytes, which no program can be given."
    ]


_texts = st.text(st.sampled_from("ab${}._FEDSYS model_config.hyperparameters_config.RUN_ID"), max_size=60)
_values = st.one_of(_texts, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False), st.lists(_texts))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), _values), st.dictionaries(st.sampled_from("abcd"), _values), _texts)
def test_any_text_resolves_or_raises_the_named_error(
    model: dict[str, Any], hyperparameters: dict[str, Any], argument: str
) -> None:
    manifest = _manifest(x=argument)
    with suppress(ExpressionError):
        rendered = render_entry(manifest, _rows(**model), _rows(**hyperparameters), RUN)
        assert json.loads(json.dumps(rendered.config)) == rendered.config
        assert all(isinstance(text, str) for text in rendered.arguments)
        assert "${" not in "".join(rendered.arguments)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_text_without_an_expression_stays_as_it_is(text: str) -> None:
    plain = text.replace("${", "")
    assert _render("${hyperparameters_config.v}", v=plain) == plain


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.none(),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50).filter(
            lambda text: "${" not in text
        ),
        st.lists(st.one_of(st.integers(0, 9), st.booleans(), st.none(), st.sampled_from("ab")), max_size=5),
    )
)
def test_what_a_row_shows_is_read_back_as_the_same_value(value: Value) -> None:
    result = value_parse(row_type(value), value_text(value))
    assert (result, type(result)) == (value, type(value))
