"""The values of each run of a sweep."""

from __future__ import annotations

import pytest

from sweeps.plan import PlanRefused, plan, values_split


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1", ["0.1"]),
        ("0.1, 0.01 ,1e-3", ["0.1", "0.01", "1e-3"]),
        ('adam, "a, b"', ["adam", "a, b"]),
        ("a\nb, c", ["a b", "c"]),
    ],
)
def test_values_are_separated_by_commas(text: str, values: list[str]) -> None:
    assert values_split(text) == values


def test_a_grid_is_every_combination_the_last_changing_first() -> None:
    assert plan({"h.lr": ["1", "2"], "h.seed": ["7"], "h.opt": ["sgd", "adam"]}, "grid") == [
        {"h.lr": "1", "h.seed": "7", "h.opt": "sgd"},
        {"h.lr": "1", "h.seed": "7", "h.opt": "adam"},
        {"h.lr": "2", "h.seed": "7", "h.opt": "sgd"},
        {"h.lr": "2", "h.seed": "7", "h.opt": "adam"},
    ]


def test_a_list_goes_value_by_value() -> None:
    assert plan({"h.lr": ["1", "2"], "h.seed": ["7"], "h.opt": ["sgd", "adam"]}, "list") == [
        {"h.lr": "1", "h.seed": "7", "h.opt": "sgd"},
        {"h.lr": "2", "h.seed": "7", "h.opt": "adam"},
    ]


@pytest.mark.parametrize(
    ("values", "mode", "sentence"),
    [
        ({}, "grid", "Give at least one parameter several values, separated by commas."),
        ({"h.lr": ["1"]}, "list", "Give at least one parameter several values, separated by commas."),
        (
            {"h.a": [str(i) for i in range(15)], "h.b": [str(i) for i in range(14)]},
            "grid",
            "These are 210 combinations; 200 runs are allowed. Give fewer values.",
        ),
        ({"h.a": ["1"] * 201}, "list", "These are 201 runs; 200 are allowed."),
        (
            {"h.a": ["1", "2"], "h.b": ["1", "2", "3"]},
            "list",
            "Value by value, every parameter needs as many values as the others (a: 2, b: 3).",
        ),
    ],
)
def test_what_makes_no_plan_is_said(values: dict[str, list[str]], mode: str, sentence: str) -> None:
    with pytest.raises(PlanRefused) as refused:
        plan(values, mode)  # type: ignore[arg-type]
    assert str(refused.value) == sentence
