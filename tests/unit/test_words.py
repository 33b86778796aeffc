"""No code reads what an error says: what it needs to know are fields. Read from the package's text, so nothing is left out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_brayns
from airflow_brayns import errors

PACKAGE = Path(airflow_brayns.__file__).parent
# What others say has no fields: the places where such words are read, and whose they are.
OTHERS = {
    "cluster/allocation.py::is_idle_end": "the keeper's, in a file",
    "cluster/allocation.py::stopped": "the wrapper's, in a file",
    "cluster/allocation.py::said": "the wrapper's, in a file",
    "movie/ffmpeg.py::duration_in": "ffmpeg's",
    "movie/ffmpeg.py::stream_in": "ffmpeg's",
    "movie/scene.py::_not_loaded": "braynsService's, by a pattern of `brayns/words.py`",
    "services/broken_connection.py::places_in": "a client's: where the connection led that broke",
    "services/connection_test.py::_service": "what `setup` printed, and the version behind it",
    "services/connection_test.py::_tested": "sbatch's",
    "services/in_use.py::explain": "a client's: a tunnel's own port says nothing to the reader",
}
_TELLERS = {"str", "repr", "reason_of"}  # make a text of an error
_SENTENCES = {"message", "said", "why", "trouble", "exit_text"}  # names under which texts of errors travel here
_READERS = {"startswith", "endswith", "removeprefix", "removesuffix", "replace", "partition", "rpartition", "split",
            "find", "index", "count", "search", "match", "fullmatch", "findall", "finditer", "sub"}  # fmt: skip


class Reading(ast.NodeVisitor):
    """The places of one function that look into an error's text."""

    def __init__(self, errors: set[str]) -> None:
        self.errors, self.texts, self.found = errors, set[str](), list[int]()

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.errors.add(node.name)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if self.tells(node.value):
            self.texts |= {
                name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)
            }
        self.generic_visit(node)

    def visit_For(self, node: ast.For | ast.comprehension) -> None:
        if self.tells(node.iter):
            self.texts |= {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}
        self.generic_visit(node)

    visit_comprehension = visit_For

    def visit_ListComp(self, node: ast.ListComp) -> None:
        for generator in node.generators:
            self.visit(generator)
        self.visit(node.elt)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        if any(self.tells(side) for side in sides) and not any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
            self.found.append(node.lineno)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        read = isinstance(node.func, ast.Attribute) and node.func.attr in _READERS
        texts = (node.func.value, *node.args) if read else ()  # type: ignore[attr-defined]
        if any(self.tells(one) or begins_a_sentence(one) for one in texts):
            self.found.append(node.lineno)
        self.generic_visit(node)

    def tells(self, node: ast.expr) -> bool:
        """Whether an expression is an error's text, or made of one."""
        match node:
            case ast.Name(id=name):
                return name in self.texts or name in _SENTENCES
            case ast.Attribute(value=ast.Name(id=name), attr="args"):
                return name in self.errors
            case ast.Attribute(attr=name):
                return name in _SENTENCES
            case ast.Call(func=ast.Name(id=name), args=[of, *_]) if name in _TELLERS:
                return self.is_error(of) or self.tells(of)
            case ast.Call(
                func=ast.Attribute(value=of, attr=("strip" | "lower" | "casefold" | "rstrip" | "splitlines"))
            ):
                return self.tells(of)
            case ast.JoinedStr(values=parts):
                inside = [part.value for part in parts if isinstance(part, ast.FormattedValue)]
                return any(self.is_error(one) or self.tells(one) for one in inside)
            case ast.Subscript(slice=ast.Constant(value="msg")):  # pydantic's
                return True
            case ast.Subscript(value=of):
                return self.tells(of)
            case ast.List(elts=sides) | ast.Tuple(elts=sides) | ast.BoolOp(values=sides):
                return any(self.tells(one) for one in sides)
            case ast.BinOp(left=left, right=right):
                return self.tells(left) or self.tells(right)
            case ast.IfExp(body=one, orelse=other):
                return self.tells(one) or self.tells(other)
            case ast.NamedExpr(value=of):
                return self.tells(of)
        return False

    def is_error(self, node: ast.expr) -> bool:
        match node:
            case ast.Name(id=name):
                return name in self.errors
            case ast.Attribute(attr=name):
                return name in ("__cause__", "__context__")
        return False


def begins_a_sentence(node: ast.expr) -> bool:
    """Whether a text is what stands before a sentence, such as `field: ` or `Value error, `."""
    match node:
        case ast.JoinedStr(values=[_, *_, ast.Constant(value=str(text))]):
            return text.endswith((": ", ", "))
        case ast.Constant(value=str(text)):
            return len(text) > 2 and text.endswith((": ", ", "))
    return False


def readings(source: str) -> Iterator[tuple[str, int]]:
    """Function and line of each place that looks into an error's text."""
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*function.args.args, *function.args.kwonlyargs]
            noted = {one.arg for one in arguments if one.annotation and "Error" in ast.unparse(one.annotation)}
            reading = Reading(noted | {one.arg for one in arguments if one.arg in ("error", "exception", "reason")})
            for statement in function.body:
                reading.visit(statement)
            yield from ((function.name, line) for line in reading.found)


def all_readings() -> Iterator[tuple[str, int]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        short = path.relative_to(PACKAGE).as_posix()
        if not short.startswith("emulator/"):
            yield from ((f"{short}::{name}", line) for name, line in readings(path.read_text()))


def test_no_code_reads_what_an_error_says() -> None:
    assert [f"{place}, line {line}" for place, line in all_readings() if place not in OTHERS] == []


def test_each_place_that_is_named_still_reads_others_words() -> None:
    assert {place for place, _ in all_readings()} >= set(OTHERS)


@pytest.mark.parametrize(
    "body",
    [
        "try: go()\n    except OSError as error:\n        if 'idle' in str(error): pass",
        "try: go()\n    except OSError as error:\n        text = str(error)\n        return text == 'x'",
        "try: go()\n    except OSError as error:\n        return error.args[0].startswith('x')",
        "try: go()\n    except OSError as error:\n        return re.search('x', f'{error}')",
        "return PATTERN.search(error.message)",
        "return message.replace('a', 'b')",
        "return [one for text in [str(error)] for one in PATTERN.finditer(text)]",
        "return 'frame ' in aside.why",
        "return first['msg'].strip().startswith('Value')",
        "return text.removeprefix('at_most 60: ')",
        "return text.removeprefix(f'{field}: ')",
    ],
)
def test_a_place_that_reads_an_error_is_seen(body: str) -> None:
    assert list(readings(f"def f(error, message):\n    {body}\n"))


@pytest.mark.parametrize(
    "body",
    [
        "try: go()\n    except OSError as error:\n        raise Lost(f'it broke: {error}') from error",
        "return str(error) or 'no answer in time'",
        "return error.field == 'nodes' and error.retry",
        "return error.errno in (1, 2)",
    ],
)
def test_telling_an_error_is_no_reading(body: str) -> None:
    assert not list(readings(f"def f(error, message):\n    {body}\n"))


def test_no_error_hides_its_field_in_its_sentence() -> None:
    """`ServiceFailed("plugins: …")` says what `field="plugins"` is for."""
    hidden = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Name)
                and hasattr(errors, call.func.id)
                and call.args
            ):
                text = ast.unparse(call.args[0]).removeprefix("f")[1:]
                if call.func.id[0].isupper() and re.match(r"[a-z_]+: ", text):
                    hidden.append(f"{path.relative_to(PACKAGE)}:{call.lineno} {text[:40]}")
    assert hidden == []
