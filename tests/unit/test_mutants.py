"""The faults that `make mutants` puts into modules are faults, each at its place, and no others."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.faults import Fault, faults_of, sample

MODULE = '''"""A docstring."""

LIMIT, NAME = 10, "a sentence for people"


def first(values: list[int], *, log, most: int = 3) -> int | None:
    """Another."""
    log.info("not %d", 7)
    try:
        if not values or len(values) > most:
            return None
        return values[0] + 1
    except TypeError:
        values.clear()
        raise ValueError(f"no {most}") from None
'''


def changes(kind: str) -> set[str]:
    return {f"{one.before} -> {one.after}" for one in faults_of("m.py", MODULE) if one.kind == kind}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("comparison", {"len(values) > most -> (len(values) >= most)"}),
        (
            "boolean",
            {"not values or len(values) > most -> (not values and len(values) > most)", "not values -> (values)"},
        ),
        ("arithmetic", {"values[0] + 1 -> (values[0] - 1)"}),
        ("constant", {"10 -> 11", "3 -> 4", "0 -> 1", "1 -> 2"}),
        ("return", {"return values[0] + 1 -> return None"}),
        ("statement", {"values.clear() -> pass", 'raise ValueError(f"no {most}") from None -> pass'}),
        ("handler", {'values.clear()\n        raise ValueError(f"no {most}") from None -> raise'}),
    ],
)
def test_each_kind_of_fault_is_found_and_what_is_said_and_logged_is_left_alone(kind: str, expected: set[str]) -> None:
    assert changes(kind) == expected


def test_a_module_with_a_fault_is_another_one_and_can_be_compiled() -> None:
    for fault in faults_of("m.py", MODULE):
        text = fault.put_into(MODULE.encode()).decode()
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(MODULE))


def test_a_fault_is_known_by_its_function_wherever_its_line_is() -> None:
    moved = faults_of("m.py", "\n\n\n" + MODULE)
    assert [one.name for one in moved] == [one.name for one in faults_of("m.py", MODULE)]
    assert [one.lines[0] - 3 for one in moved] == [one.lines[0] for one in faults_of("m.py", MODULE)]
    assert "m.py first comparison: len(values) > most -> (len(values) >= most)" in [one.name for one in moved]


def test_a_sample_is_of_all_modules_and_kinds_and_always_the_same() -> None:
    small = faults_of("small.py", "A = 1\n")
    whole = {"m.py": faults_of("m.py", MODULE), "small.py": small}
    chosen = sample(whole, 8, 1)
    assert chosen == sample(whole, 8, 1)
    assert {one.path for one in chosen} == {"m.py", "small.py"}
    assert len({one.kind for one in chosen if one.path == "m.py"}) >= 6
    assert [one for one in sample({"m.py": whole["m.py"]}, 8, 1) if one in chosen], (
        "what other modules hold changes little"
    )


def test_texts_of_other_scripts_are_cut_at_their_bytes() -> None:
    [fault] = [one for one in faults_of("m.py", "A = 'ä' if B > 1 else 'ö'\n") if one.kind == "comparison"]
    assert isinstance(fault, Fault)
    assert fault.put_into("A = 'ä' if B > 1 else 'ö'\n".encode()).decode() == "A = 'ä' if (B >= 1) else 'ö'\n"
