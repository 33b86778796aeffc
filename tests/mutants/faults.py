"""The small faults that can be put into a module, found in its syntax tree.

Left out is what no test should pin: docstrings, annotations, decorators, sentences for people, and what is only logged.
"""

from __future__ import annotations

import ast
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
LOG_METHODS = {"debug", "info", "warning", "error", "exception"}


@dataclass(frozen=True)
class Fault:
    """One place of a module with another text.

    :param path: of the module, from the project's folder.
    :param function: in which it is, with its class; empty at the module's own level.
    :param kind: of fault.
    :param lines: first and last line of the statement: not each line of a constant of several lines is seen to run.
    :param span: of what is replaced, as offsets in the module's bytes.
    :param before: what is replaced.
    :param after: by what.
    """

    path: str
    function: str
    kind: str
    lines: tuple[int, int]
    span: tuple[int, int]
    before: str
    after: str

    @property
    def name(self) -> str:
        """What it is called in lists: it stays the same when lines move."""
        before, after = (" ".join(text.split()) for text in (self.before, self.after))
        return f"{self.path} {self.function or '-'} {self.kind}: {before} -> {after}"

    def put_into(self, source: bytes) -> bytes:
        """The module with this fault."""
        first, last = self.span
        return source[:first] + self.after.encode() + source[last:]


def faults_of(path: str, source: str) -> list[Fault]:
    """Every fault that can be put into a module, in the order of its lines."""
    return sorted(_Finder(path, source).found(), key=lambda fault: (fault.span, fault.kind, fault.after))


def sample(by_module: dict[str, list[Fault]], number: int, seed: int, least: int = 2) -> list[Fault]:
    """About so many faults: each module has a share by its size, of all kinds alike, whatever the other modules hold."""
    total = sum(len(found) for found in by_module.values())
    chosen: list[Fault] = []
    for path, found in sorted(by_module.items()):
        share = max(least, round(number * len(found) / total))
        chosen += islice(_by_turns(found, random.Random(f"{seed} {path}")), share)
    return chosen


def _by_turns(faults: list[Fault], chance: random.Random) -> Iterator[Fault]:
    """All of them by chance, one of each kind and then the next of each: most are constants, and tell least."""
    kinds: dict[str, list[Fault]] = defaultdict(list)
    for fault in chance.sample(faults, len(faults)):
        kinds[fault.kind].append(fault)
    return (fault for turn in zip_longest(*kinds.values()) for fault in turn if fault is not None)


def modules(root: Path, folders: Iterable[str]) -> dict[str, str]:
    """The text of each module below some folders, by its path from `root`."""
    paths = sorted(path for folder in folders for path in (root / folder).rglob("*.py"))
    return {str(path.relative_to(root)): path.read_text() for path in paths}


class _Finder:
    def __init__(self, path: str, source: str) -> None:
        self._path, self._source = path, source.encode()
        self._starts = [0]
        for line in self._source.split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)

    def found(self) -> Iterator[Fault]:
        for node, place in _code(ast.parse(self._source), _Place()):
            for kind, other in _others(node):
                yield self._fault(node, place, kind, other if isinstance(other, str) else f"({ast.unparse(other)})")

    def _fault(self, node: ast.AST, place: _Place, kind: str, after: str) -> Fault:
        match node:
            case ast.ExceptHandler(body=body):
                first, last = body[0], body[-1]
            case ast.If(test=test):
                first = last = test
            case _:
                first = last = node
        span = self._offset(first.lineno, first.col_offset), self._offset(last.end_lineno, last.end_col_offset)
        before = self._source[slice(*span)].decode()
        lines = place.lines or (first.lineno, last.end_lineno or first.lineno)
        return Fault(self._path, place.function, kind, lines, span, before, after)

    def _offset(self, line: int | None, column: int | None) -> int:
        assert line is not None and column is not None
        return self._starts[line - 1] + column


@dataclass(frozen=True)
class _Place:
    """The function, with its class, and the lines of the simple statement that something is in."""

    function: str = ""
    lines: tuple[int, int] | None = None

    def inside(self, node: ast.AST) -> _Place:
        """The place of what is inside a node."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return _Place(f"{self.function}.{node.name}" if self.function else node.name)
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            return _Place(self.function, (node.lineno, node.end_lineno or node.lineno))
        return self


def _code(node: ast.AST, place: _Place) -> Iterator[tuple[ast.AST, _Place]]:
    """Every node whose meaning a test could notice, and where it is."""
    place = place.inside(node)
    yield node, place
    for child in _children(node):
        yield from _code(child, place)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from (default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None)
            yield from (one for one in node.body if not _is_text(one))
        case ast.ClassDef() | ast.Module():
            yield from (one for one in node.body if not _is_text(one))
        case ast.AnnAssign():
            yield from [node.value] if node.value is not None else []
        case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.JoinedStr():
            return
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.Expr() if _is_log(node):
            return
        case _:
            yield from ast.iter_child_nodes(node)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_log(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "logger" | "_log"), attr=name))):
            return name in LOG_METHODS
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Attribute(attr="log" | "_log"), attr=name))):
            return name in LOG_METHODS
    return False


def _others(node: ast.AST) -> Iterator[tuple[str, ast.AST | str]]:
    """What can stand in a node's place: the kind of fault, and the other node or its text."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            yield "comparison", ast.Compare(node.left, [COMPARISONS[type(op)]()], node.comparators)
        case ast.BoolOp():
            yield "boolean", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not()):
            yield "boolean", node.operand
        case ast.BinOp() if type(node.op) in ARITHMETIC and not _is_type(node):
            yield "arithmetic", ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
        case ast.Constant():
            yield from (("constant", text) for text in _other_constants(node.value))
        case ast.Return(value=value) if value is not None and not _is_none(value):
            yield "return", "return None"
        case ast.If(test=ast.Name() | ast.Attribute() | ast.Call() | ast.NamedExpr() as test):
            yield "condition", ast.UnaryOp(ast.Not(), test)
        case ast.IfExp():
            yield "condition", ast.IfExp(node.test, node.orelse, node.body)
        case ast.Expr() if not _is_log(node):
            yield "statement", "pass"
        case ast.AugAssign() | ast.Raise(exc=ast.AST()) | ast.Break() | ast.Continue() | ast.Delete():
            yield "statement", "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            yield "statement", "pass"
        case ast.ExceptHandler() if not (len(node.body) == 1 and isinstance(node.body[0], ast.Raise)):
            yield "handler", "raise"


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_type(node: ast.BinOp) -> bool:
    """`A | B` of types, outside annotations."""
    sides = (node.left, node.right)
    return isinstance(node.op, ast.BitOr) and any(
        _is_none(one) or (isinstance(one, ast.Name) and one.id[:1].isupper()) or one.__class__ is ast.Attribute
        for one in sides
    )


def _other_constants(value: object) -> Iterator[str]:
    match value:
        case bool():
            yield repr(not value)
        case int():
            yield repr(value + 1)
        case float():
            yield repr(value * 2 + 1)
        case str() if not any(letter.isspace() for letter in value):  # a sentence is for people
            yield repr(f"{value}XX")
