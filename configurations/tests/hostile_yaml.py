"""Packages that are broken by their ``conf/fedml.yaml``, with the sentence that has to answer each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from configurations.tests.packages import FEDML_YAML, package_bytes


@dataclass(frozen=True)
class HostilePackage:
    """An upload that has to be refused.

    Attributes:
        name: what is wrong with it.
        build: makes its bytes.
        message: the problem's ``message``, whole.
        line: line of the file, where there is one.
        fix: a part of the problem's ``fix``.
        limits: settings that make the case small.
    """

    name: str
    build: Callable[[], bytes]
    message: str
    fix: str
    line: int | None = None
    limits: dict[str, int] = field(default_factory=dict)


def _yaml(text: str | bytes) -> Callable[[], bytes]:
    return lambda: package_bytes(text)


def _hyperparameter(line: str) -> Callable[[], bytes]:
    """A package whose ``fedml.yaml`` has this line as line 6, in hyperparameters_config."""
    return _yaml(FEDML_YAML.replace("  client_num_per_round:", f"  {line}\n  client_num_per_round:"))


def _argument(line: str) -> Callable[[], bytes]:
    """A package whose ``fedml.yaml`` has this line as its last, line 15, in entry_arguments."""
    return _yaml(f"{FEDML_YAML}  {line}\n")


def _without(line_start: str) -> Callable[[], bytes]:
    lines = FEDML_YAML.splitlines(keepends=True)
    return _yaml("".join(line for line in lines if not line.strip().startswith(line_start)))


def _billion_laughs() -> str:
    levels = ["lol0: &lol0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"lol{n}: &lol{n} [{', '.join([f'*lol{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(levels)


def _expression_laughs() -> str:
    rows = ["  e0: '0123456789'"] + [f"  e{n}: '{f'${{model_config.e{n - 1}}}' * 10}'" for n in range(1, 9)]
    return FEDML_YAML.replace("model_config:\n", "model_config:\n" + "\n".join(rows) + "\n", 1)


FEDML_YAMLS: list[HostilePackage] = [
    # --- fedml.yaml -----------------------------------------------------------------------------------------------
    HostilePackage(
        "yaml_empty",
        _yaml("# nothing\n"),
        "The file is empty.",
        "Write the sections model_config, hyperparameters_config, entry_config, entry_arguments.",
    ),
    HostilePackage(
        "yaml_too_large",
        _yaml("# " + "x" * 300_000),
        "package/conf/fedml.yaml is larger than the 256 KiB that are allowed.",
        "Make it smaller.",
    ),
    HostilePackage("yaml_not_utf8", _yaml(b"a: 1\nb: \xff\n"), "The line is not valid UTF-8.", "UTF-8", line=2),
    HostilePackage(
        "yaml_control_character",
        _yaml("a: 1\nb: \x07\n"),
        "The line holds a character that YAML does not allow.",
        "Remove the control character.",
        line=2,
    ),
    HostilePackage(
        "yaml_tab", _yaml("model_config:\n\tmodelName: lr\n"), "The line is indented with a tab.", "spaces", line=2
    ),
    HostilePackage(
        "yaml_syntax",
        _yaml("model_config:\n  modelName: 'lr\n"),
        "This is not valid YAML: found unexpected end of stream.",
        "Look at this line and the one before it",
        line=3,
    ),
    HostilePackage(
        "yaml_unquoted_expression_in_braces",
        _yaml("entry_arguments: {model: ${model_config.modelName}}\n"),
        "This is not valid YAML: expected ',' or '}', but got '{'.",
        "Put each expression inside { } in quotes: '${...}'.",
        line=1,
    ),
    HostilePackage(
        "yaml_a_list", _yaml("- a\n- b\n"), "The file is not a map of sections.", "Write the sections", line=1
    ),
    HostilePackage(
        "yaml_two_documents",
        _yaml(FEDML_YAML + "---\na: 1\n"),
        "A second document begins here.",
        "remove the line ---",
        line=15,
    ),
    HostilePackage(
        "billion_laughs",
        _yaml(_billion_laughs()),
        "The alias *lol0 repeats another value; aliases are not read.",
        "Write the value out.",
        line=2,
    ),
    HostilePackage(
        "yaml_too_deep",
        _yaml("a: " + "[" * 200 + "]" * 200),
        "The file is more than 12 levels deep.",
        "flat lists of values",
        line=1,
    ),
    HostilePackage(
        "yaml_too_many_values",
        _yaml("a: [" + "1," * 11_000 + "1]"),
        "The file is more than 10000 values.",
        "flat lists of values",
        line=1,
    ),
    HostilePackage(
        "yaml_python_object",
        _hyperparameter("x: !!python/object/apply:os.system ['id']"),
        "x has the tag tag:yaml.org,2002:python/object/apply:os.system, which is not read.",
        "Write a plain value without !.",
        line=6,
    ),
    HostilePackage(
        "yaml_merge_key",
        _hyperparameter("<<: {a: 1}"),
        "The merge key << is not read.",
        "Write the values out.",
        line=6,
    ),
    HostilePackage(
        "yaml_duplicate_key",
        _hyperparameter("lr: 0.1"),
        "The name lr stands here again; it is on line 4 already, and YAML would silently take the last one.",
        "Remove one of the two.",
        line=6,
    ),
    HostilePackage(
        "yaml_float_read_as_text",
        _hyperparameter("decay: 1e-3"),
        "YAML reads decay: 1e-3 as text.",
        "Write 1.0e-3 for the number, or put it in quotes for the text.",
        line=6,
    ),
    HostilePackage(
        "yaml_octal",
        _hyperparameter("batch: 010"),
        "YAML reads batch: 010 as the octal number 8.",
        "Write 10 or 8 for the number",
        line=6,
    ),
    HostilePackage(
        "yaml_leading_zero",
        _hyperparameter("batch: 08"),
        "YAML reads batch: 08 as text.",
        "Write 8 for the number",
        line=6,
    ),
    HostilePackage(
        "yaml_no",
        _hyperparameter("country: no"),
        "YAML reads country: no as false.",
        "Write false, or 'no' in quotes for the text.",
        line=6,
    ),
    HostilePackage(
        "yaml_on",
        _hyperparameter("light: On"),
        "YAML reads light: On as true.",
        "Write true, or 'On' in quotes for the text.",
        line=6,
    ),
    HostilePackage(
        "yaml_base_60",
        _hyperparameter("ratio: 1:30"),
        "YAML reads ratio: 1:30 as a number to the base 60.",
        "Write '1:30' in quotes",
        line=6,
    ),
    HostilePackage(
        "yaml_date",
        _hyperparameter("version: 2022-04-23"),
        "YAML reads version: 2022-04-23 as a date.",
        "Write '2022-04-23' in quotes for the text.",
        line=6,
    ),
    HostilePackage("yaml_nan", _hyperparameter("lr2: .nan"), "lr2 is not a finite number.", "a finite number", line=6),
    HostilePackage(
        "yaml_nan_as_text", _hyperparameter("lr2: NaN"), "YAML reads lr2: NaN as text.", "a finite number", line=6
    ),
    HostilePackage(
        "yaml_huge_number",
        _hyperparameter("seed: 99999999999999999999"),
        "seed: The whole number does not fit into 64 bits.",
        "Change the value.",
        line=6,
    ),
    HostilePackage(
        "yaml_nested_map",
        _hyperparameter("model: {depth: 3}"),
        "model is a map; a value is text, a number, true, false, null or a list of these.",
        "a row of its own",
        line=6,
    ),
    HostilePackage(
        "yaml_list_of_lists",
        _hyperparameter("layers: [[1], 2]"),
        "The list layers holds another list or a map.",
        "a list of plain values",
        line=6,
    ),
    HostilePackage(
        "yaml_unusable_name",
        _hyperparameter("'a b': 1"),
        "The name a b is not usable in hyperparameters_config.",
        "letters, digits",
        line=6,
    ),
    HostilePackage(
        "yaml_argument_that_is_two",
        _argument("'x --evil': 1"),
        "The argument name x --evil is not usable.",
        "letters, digits",
        line=15,
    ),
    # --- Entry and expressions --------------------------------------------------------------------------------------
    HostilePackage(
        "entry_file_missing",
        _without("entry_file"),
        "entry_config.entry_file is missing.",
        "entry_file: with the path of your main file",
        line=7,
    ),
    HostilePackage(
        "entry_file_not_packed",
        _yaml(FEDML_YAML.replace("fedml/main.py", "fedml/mian.py")),
        "The entry file fedml/mian.py is not in the package.",
        "Did you mean fedml/main.py?",
        line=8,
    ),
    HostilePackage(
        "entry_file_outside",
        _yaml(FEDML_YAML.replace("fedml/main.py", "../../bin/sh")),
        "The entry file '../../bin/sh' is not a plain relative path.",
        "below the package's folder",
        line=8,
    ),
    HostilePackage(
        "entry_file_expression",
        _yaml(FEDML_YAML.replace("fedml/main.py", "${model_config.modelName}")),
        "entry_config.entry_file holds an expression.",
        "Write the path of one file.",
        line=8,
    ),
    HostilePackage(
        "expression_unknown_key",
        _argument("rate: ${hyperparameters_config.comm_rond}"),
        "hyperparameters_config has no value named comm_rond, to which ${hyperparameters_config.comm_rond} refers.",
        "Did you mean ${hyperparameters_config.comm_round}?",
        line=15,
    ),
    HostilePackage(
        "expression_unknown_variable",
        _argument("run: ${FEDSYS.RUNID}"),
        "There is no internal variable ${FEDSYS.RUNID}.",
        "Did you mean ${FEDSYS.RUN_ID}?",
        line=15,
    ),
    HostilePackage(
        "expression_of_the_shell",
        _argument("home: ${HOME}"),
        "${HOME} refers to nothing.",
        "Write ${model_config.NAME}, ${hyperparameters_config.NAME} or ${FEDSYS.NAME}.",
        line=15,
    ),
    HostilePackage(
        "expression_not_closed",
        _argument("run: ${FEDSYS.RUN_ID"),
        "The expression ${FEDSYS.RUN_ID is not closed.",
        "Write a } at its end",
        line=15,
    ),
    HostilePackage(
        "expression_cycle",
        _yaml(
            FEDML_YAML.replace(
                "  modelName: lr\n",
                "  modelName: lr\n  a: ${hyperparameters_config.b}\n",
            ).replace("  lr: 0.03\n", "  lr: 0.03\n  b: x${model_config.a}\n")
        ),
        "The values refer to each other in a circle:"
        " hyperparameters_config.b -> model_config.a -> hyperparameters_config.b.",
        "Give one of them a plain value.",
        line=6,
    ),
    HostilePackage(
        "expression_laughs",
        _yaml(_expression_laughs()),
        "The value grows beyond 100000 characters when its expressions are resolved.",
        "Refer to fewer or shorter values.",
        line=7,
    ),
]
