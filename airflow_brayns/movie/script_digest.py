"""Digests of Python files: what a movie's pictures depend on, and what they do not, such as comments and the name of the
movie.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import TypeGuard

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.script_named import ANY, named, so_named
from airflow_brayns.movie.script_traceback import cut

_WHOLE_BYTES = 1 << 28  # a larger file is known by its size and time
# The settings of a file that shape no picture, or are in each frame's key by themselves.
_NO_PICTURE = frozenset(
    [
        "frames",
        "fps",
        "resolution",
        "output",
        "format",
        "quality",
        "codec",
        "crf",
        "renderer",
        "frame_range",
        "overlays",
        "budget",
        "inputs",
    ]
)


def parse(source: str | bytes, name: str) -> ast.Module:
    """Parse a file.

    :param name: the file's name, for errors.
    :raises InvalidSetting: it is no Python; the error names the line.
    """
    try:
        return ast.parse(source, name)
    except SyntaxError as error:
        where = f"{name} line {error.lineno}" if error.lineno else name
        told = f": {cut(error.text.strip())}" if error.text else ""
        raise InvalidSetting(where, f"It is no Python, {error.msg}{told}", remedy="correct it.") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidSetting(
            name, f"It is no Python, {error or 'it is nested too deep'}", remedy="correct it."
        ) from None


def assigned(tree: ast.Module) -> list[ast.Name]:
    """The names that a file sets at its top, in order."""
    return [
        name
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    ]


def makes_movie(tree: ast.Module) -> bool:
    """Tell whether a file makes a movie, rather than is a module of one."""
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return bool({"frame", "scene"} & functions) or "frames" in {name.id for name in assigned(tree)}


def digest_of(tree: ast.Module, left_out: Set[str] = frozenset()) -> str:
    """The digest of a file's code, without comments, spaces, and the settings of some names."""
    kept = [text for node in tree.body for text in _without(node, left_out)]
    return hashlib.sha256("\n".join(kept).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def unread(tree: ast.Module, beside: Iterable[ast.Module] = (), name: str = "") -> Set[str]:
    """The settings of a movie's own file that no code reads: neither its own, nor that of the modules beside it.

    :param name: the name that those may import the file by.
    """
    found = names_read(tree)
    for one in (tree, *beside):
        for node in ast.walk(one):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # such as getattr(movie, "frames")
                found.add(node.value)
            elif isinstance(node, ast.ImportFrom):
                found.update(alias.name for alias in node.names)
                if node.names[0].name == "*" and (node.module or "").split(".")[-1] == name:
                    return frozenset()
    return _NO_PICTURE - found


def names_read(tree: ast.Module) -> set[str]:
    """The names that a file's code reads."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _without(node: ast.stmt, names: Set[str]) -> Iterator[str]:
    """The text of a statement, without the settings of some names."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            pairs = list(zip(target.elts, value.elts, strict=True))
        else:
            pairs = [(target, value)]
        for one, what in pairs:
            if not (isinstance(one, ast.Name) and one.id in names):
                yield f"{ast.unparse(one)} = {ast.unparse(what)}"
        return
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in names:
        return
    yield ast.unparse(node)


def imported(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Every module that a file imports, wherever in it: its dotted name, with dots before it where it is relative, the
    line, and whether the file can do without, since a `try` or a `suppress` is around the import, or it is not run here.
    """
    around: list[ast.stmt] = [node for node in ast.walk(tree) if isinstance(node, ast.Try) or _suppresses(node)]
    around += [one for node in ast.walk(tree) if isinstance(node, ast.If) and _is_not_run(node) for one in node.body]
    tried = {id(inner) for node in around for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, id(node) in tried) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base, node.lineno, id(node) in tried
            dot = "" if base.endswith(".") else "."
            yield from ((f"{base}{dot}{alias.name}", node.lineno, True) for alias in node.names if alias.name != "*")


def _suppresses(node: ast.AST) -> TypeGuard[ast.With]:
    """Tell whether a block goes on without what cannot be imported in it: `with suppress(ImportError):`."""
    return isinstance(node, ast.With) and any(
        isinstance(one.context_expr, ast.Call) and ast.unparse(one.context_expr.func).endswith("suppress")
        for one in node.items
    )


def _is_not_run(node: ast.If) -> bool:
    """Tell whether a condition is for type checkers, or for the file as a program."""
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")


def beside(folder: Path, module: str) -> list[Path]:
    """The files of a module that lies in a folder, with those of the packages that it is in; none where it does not."""
    found, place = list[Path](), folder
    for part in module.lstrip(".").split("."):
        file, package = place / f"{part}.py", place / part / "__init__.py"
        if package.is_file():
            found.append(package)
        elif file.is_file():
            return [*found, file]
        elif not (place / part).is_dir():
            return found
        place = place / part
    return found


def modules_of(file: Path, tree: ast.Module) -> dict[str, str]:
    """The digests of a file and of all modules beside it that it imports, or may import by a text that is known only when
    it runs, and that those import, by path from the file's folder.

    :raises InvalidSetting: one cannot be read or is no Python, or a relative import leaves the folder.
    """
    trees = trees_of(file, tree)
    perhaps, broken = _perhaps(file.parent, trees)
    others = {name: one for name, one in {**trees, **perhaps}.items() if name != file.name}
    left_out = unread(tree, others.values(), file.stem)
    return {file.name: digest_of(tree, left_out), **{name: digest_of(one) for name, one in others.items()}, **broken}


def trees_of(file: Path, tree: ast.Module) -> dict[str, ast.Module]:
    """A file and all modules beside it that it imports, and that those import, by path from the file's folder.

    :raises InvalidSetting: as `modules_of`.
    """
    folder, trees = file.parent, {file.name: tree}
    waiting = [file.name]
    while waiting:
        importing = waiting.pop()
        by_text = ((module, 0, True) for module in named(trees[importing]) if ANY not in module)
        for module, line, tried in (*imported(trees[importing]), *by_text):
            where = _base(folder, importing, module)
            if where is None and not tried:
                raise InvalidSetting(
                    f"{importing} line {line}",
                    f"It imports {module}, which leaves the movie's folder, so that Python does not find it.",
                    remedy="import it by its name from that folder on, without dots.",
                )
            for path in beside(where, module) if where else ():
                name = path.relative_to(folder).as_posix()
                if name not in trees:
                    trees[name] = parse(_bytes_of(path), name)
                    waiting.append(name)
    return trees


def _perhaps(folder: Path, trees: Mapping[str, ast.Module]) -> tuple[dict[str, ast.Module], dict[str, str]]:
    """The modules beside a file that some code may import by a text that is known only when it runs, and what those
    import, by path; and the digests of those that are no Python, which need not matter, where something of their name is said. A movie is no module of another
    one, unless something of its name is said.
    """
    found, broken = dict[str, ast.Module](), dict[str, str]()
    waiting = list(trees.items())
    while waiting:
        importing, tree = waiting.pop()
        for module, said in _may_import(folder, importing, tree, all_of_it=importing in found):
            where = _base(folder, importing, module)
            for path in beside(where, module) if where else ():
                name = path.relative_to(folder).as_posix()
                if name in trees or name in found or name in broken:
                    continue
                try:
                    one = parse(_bytes_of(path), name)
                except InvalidSetting:
                    if said:  # else another movie, perhaps, that is being written
                        broken[name] = inputs_of([path]).get(str(path), "")
                    continue
                if said or not makes_movie(one):
                    found[name] = one
                    waiting.append((name, one))
    return found, broken


def _may_import(folder: Path, importing: str, tree: ast.Module, *, all_of_it: bool) -> Iterator[tuple[str, bool]]:
    """The modules beside that a file may import, and whether something of the name is said.

    :param all_of_it: also those whose whole name is said.
    """
    for pattern in named(tree):
        if ANY not in pattern:
            if all_of_it:
                yield pattern, True
            continue
        dots = pattern[: len(pattern) - len(pattern.lstrip("."))]
        where = _base(folder, importing, pattern)
        if where is not None:
            yield from ((f"{dots}{name}", pattern != ANY) for name in so_named(where, pattern.lstrip(".")))
    if all_of_it:
        yield from ((module, True) for module, _, _ in imported(tree))


def _base(folder: Path, importing: str, module: str) -> Path | None:
    """The folder that a module's name counts from; None where its dots lead out of the packages in a movie's folder."""
    level = len(module) - len(module.lstrip("."))
    packages = Path(importing).parts[:-1]
    if level > len(packages):
        return None
    return folder.joinpath(*packages[: len(packages) - level + 1]) if level else folder


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSetting(
            path.name, f"It cannot be read: {error.strerror}", remedy="give the worker the right to read it."
        ) from None


def inputs_of(paths: Iterable[Path]) -> dict[str, str]:
    """The digests of those data files that lie on this machine, by path; a folder is known by the names, sizes and times of
    what is in it.
    """
    found = {}
    for path in paths:
        try:
            about = path.stat()
            if path.is_dir():
                found[str(path)] = _listing(path)
            elif about.st_size > _WHOLE_BYTES or not path.is_file():
                found[str(path)] = f"{about.st_size} {about.st_mtime_ns}"
            else:
                with path.open("rb") as file:
                    found[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        except (OSError, ValueError):  # a path may hold NUL
            continue
    return found


def _listing(folder: Path) -> str:
    found = hashlib.sha256()
    for where, folders, files in os.walk(folder):
        folders.sort()
        for path in sorted(Path(where, name) for name in files):
            about = path.lstat()
            told = f"{path.relative_to(folder)}\0{about.st_size}\0{about.st_mtime_ns}\n"
            found.update(told.encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:16]
