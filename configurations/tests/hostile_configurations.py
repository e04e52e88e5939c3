"""Values of the form that have to be refused, with the sentence that answers each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HostileConfiguration:
    """Values of the form that have to be refused, and the sentence that answers them.

    Attributes:
        name: what is wrong.
        fields: what the browser sends in place of what is right.
        place: the field or row that the sentence stands at.
        message: a part of the sentence.
    """

    name: str
    fields: dict[str, Any]
    place: str
    message: str


def _rows(name: str, type_: str, value: str) -> dict[str, Any]:
    """The right hyper-parameters, and one more."""
    return {
        "hyperparameters_config-name": ["lr", "comm_round", "client_num_per_round", name],
        "hyperparameters_config-type": ["float", "integer", "string", type_],
        "hyperparameters_config-value": ["0.03", "10", "${FEDSYS.CLIENT_NUM}", value],
    }


def _row(type_: str, value: str) -> dict[str, Any]:
    return _rows("extra", type_, value)


CONFIGURATIONS: list[HostileConfiguration] = [
    HostileConfiguration("no_name", {"name": "  "}, "name", "This field is required."),
    HostileConfiguration("long_name", {"name": "n" * 121}, "name", "at most 120 characters"),
    HostileConfiguration("no_package", {"server_package": ""}, "server_package", "Upload the server package."),
    HostileConfiguration(
        "unknown_package", {"client_package": "f" * 64}, "client_package", "This client package is not in the store"
    ),
    HostileConfiguration("foreign_project", {"project": "999999"}, "project", "Select a valid choice."),
    HostileConfiguration(
        "path_outside", {"private_data_path": "../../etc"}, "private_data_path", "leads out of the devices' data folder"
    ),
    HostileConfiguration("absolute_path", {"private_data_path": "/etc"}, "private_data_path", "is absolute"),
    HostileConfiguration(
        "path_with_expression",
        {"private_data_path": "${FEDSYS.SYNTHETIC_DATA_URL}"},
        "private_data_path",
        "holds a backslash, a $",
    ),
    HostileConfiguration(
        "url_of_a_file", {"synthetic_data_url": "file:///etc/passwd"}, "synthetic_data_url", "not an http or https URL"
    ),
    HostileConfiguration(
        "url_with_expression",
        {"synthetic_data_url": "https://host/${FEDSYS.PRIVATE_LOCAL_DATA}"},
        "synthetic_data_url",
        "not an http or https URL",
    ),
    HostileConfiguration(
        "forged_data_token", {"synthetic_data": "eyJ4Ijox:forged"}, "synthetic_data", "not known any more"
    ),
    HostileConfiguration("row_without_name", _rows("", "float", "1"), "hyperparameters_config:3", "has no name"),
    HostileConfiguration(
        "row_with_bad_name", _rows("x --evil", "float", "1"), "hyperparameters_config:3", "The name is not usable."
    ),
    HostileConfiguration(
        "row_twice", _rows("lr", "float", "1"), "hyperparameters_config:0", "The name stands in two rows."
    ),
    HostileConfiguration("row_not_whole", _row("integer", "8.5"), "hyperparameters_config:3", "not a whole number"),
    HostileConfiguration("row_too_large", _row("integer", "9" * 20), "hyperparameters_config:3", "64 bits"),
    HostileConfiguration("row_nan", _row("float", "nan"), "hyperparameters_config:3", "not a number"),
    HostileConfiguration("row_infinite", _row("float", "1e999"), "hyperparameters_config:3", "not finite"),
    HostileConfiguration("row_not_true", _row("boolean", "yes"), "hyperparameters_config:3", "true or false"),
    HostileConfiguration("row_not_list", _row("list", "1, 2"), "hyperparameters_config:3", "not a list"),
    HostileConfiguration("row_deep_list", _row("list", "[" * 5000), "hyperparameters_config:3", "not a list"),
    HostileConfiguration("row_nested_list", _row("list", "[[1]]"), "hyperparameters_config:3", "no list or map"),
    HostileConfiguration("row_not_empty", _row("null", "x"), "hyperparameters_config:3", "has no value"),
    HostileConfiguration("row_with_nul", _row("string", "a\0b"), "hyperparameters_config:3", "NUL character"),
    HostileConfiguration("row_too_long", _row("string", "x" * 10_001), "hyperparameters_config:3", "10000 are allowed"),
    HostileConfiguration(
        "row_unknown_expression",
        _row("string", "${hyperparameters_config.lrr}"),
        "hyperparameters_config:3",
        "has no value named lrr",
    ),
    HostileConfiguration(
        "row_shell_expression", _row("string", "${IFS}"), "hyperparameters_config:3", "Text that holds ${ cannot be"
    ),
    HostileConfiguration(
        "row_of_itself", _row("string", "${hyperparameters_config.extra}"), "hyperparameters_config:3", "in a circle"
    ),
    HostileConfiguration(
        "row_expression_of_wrong_type",
        _row("integer", "${FEDSYS.RUN_ID}"),
        "hyperparameters_config:3",
        "An expression needs the type Text.",
    ),
    HostileConfiguration(
        "row_that_an_argument_needs_is_removed",
        {
            "hyperparameters_config-name": ["comm_round", "client_num_per_round"],
            "hyperparameters_config-type": ["integer", "string"],
            "hyperparameters_config-value": ["10", "${FEDSYS.CLIENT_NUM}"],
        },
        "problems",
        "hyperparameters_config has no value named lr, to which ${hyperparameters_config.lr} refers."
        " Add the value lr again.",
    ),
]
