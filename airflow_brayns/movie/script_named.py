"""Imports by a text, such as `importlib.import_module("cells")`: which modules beside a movie's Python they may mean."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.util import resolve_name
from pathlib import Path

ANY = "*"
_FUNCTIONS = frozenset({"import_module", "__import__"})


def named(tree: ast.Module) -> Iterator[str]:
    """The modules that a file imports by a text, wherever in it: their dotted names, with `*` for what is known only when
    it runs. Where the function is handed on, anything may be imported by it.
    """
    functions = _FUNCTIONS | {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in _FUNCTIONS and alias.asname
    }
    called = set[int]()
    for node in ast.walk(tree):  # a call comes before what is in it
        if isinstance(node, ast.Call) and _name(node.func) in functions:
            called.add(id(node.func))
            yield from _of_call(node)
        elif id(node) not in called and _name(node) in functions:
            yield ANY


def _name(node: ast.AST) -> str:
    """The name by which a function is meant here; empty where none is."""
    match node:
        case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name):
            return name
        case ast.Constant(value=str(name)):  # such as getattr(importlib, "import_module")
            return name
    return ""


def _of_call(call: ast.Call) -> Iterator[str]:
    given = {one.arg: one.value for one in call.keywords}
    module = call.args[0] if call.args else given.get("name")
    text = ANY if module is None else _text(module)
    if _name(call.func) == "__import__":
        yield text
        if len(call.args) > 3 or "fromlist" in given:
            yield f"{text}.{ANY}"
        return
    package = call.args[1] if len(call.args) > 1 else given.get("package")
    if not text.startswith(".") or _name(package or call) in ("__package__", "__name__"):
        yield text
    elif isinstance(package, ast.Constant) and isinstance(package.value, str):
        try:
            yield resolve_name(text, package.value)
        except ImportError:  # its dots lead out of the package, which raises where it runs
            return
    else:
        yield ANY


def _text(node: ast.expr) -> str:
    """A text as far as it is known before the code runs."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(_text, parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
    return ANY


def so_named(folder: Path, pattern: str) -> Iterator[str]:
    """The modules in a folder whose dotted names match a pattern. What is in a mere folder, without `__init__.py`, counts
    where the pattern names that.
    """
    head = pattern.partition(ANY)[0]

    def within(place: Path, prefix: str) -> Iterator[str]:
        for one in sorted(place.iterdir()):
            name = f"{prefix}{one.stem}"
            if not one.stem.isidentifier() or one.stem == "__init__":
                continue
            if one.suffix == ".py" and one.is_file():
                yield name
            elif not one.suffix and ((one / "__init__.py").is_file() or (one.is_dir() and head.startswith(f"{name}."))):
                yield name
                yield from within(one, f"{name}.")

    try:
        yield from (name for name in within(folder, "") if fnmatchcase(name, pattern))
    except OSError:  # it may not be listed: then nobody knows what is there
        return
