"""What differs from frame to frame by data: a table of a line for each frame, its columns bound to keys of the
specification.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, model_validator

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.errors.plain import shown
from airflow_brayns.movie.fields import (
    MOST_FRAMES,
    Part,
    check_is_file,
    misplaced,
    part_in,
    text_of,
    unknown_key,
)

Cell = bool | int | float | str
FRAME = "frame"
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_MOST_CELLS = 2_000_000
# What may change while a scene is loaded; of a model this, since the rest would load it anew.
WORDS = ("camera", "renderer", "lights", "clipping", "models")
OF_A_MODEL = ("transform", "visible", "material", "color", "colors")


class FrameTable(Part):
    """What differs from frame to frame.

    :param columns: keys of the specification, such as `camera.fovy`.
    :param rows: a row for each frame of the movie, in order, with a value for each column.
    """

    columns: tuple[str, ...] = Field(min_length=1)
    rows: tuple[tuple[Cell, ...], ...] = Field(min_length=1, max_length=MOST_FRAMES)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise misplaced(("rows", index), f"has {len(row)} values for {len(self.columns)} columns")
        for index, column in enumerate(self.columns):
            if problem := _column_problem(column, self.columns[:index]):
                raise misplaced(("columns", index), problem)
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a CSV file: a line of names, of which the first is `frame`, and a line for each frame.

        :raises InvalidSetting: it is none; the error names file, line and column.
        """
        if path.suffix.lower() != ".csv":
            raise InvalidSetting("per_frame", f"must end in .csv, a table with a line for each frame, not {path.name}")
        check_is_file("per_frame", path)
        text = text_of(path, "per_frame", "utf-8-sig")
        return cls._of_lines(path.name, csv.reader(io.StringIO(text, newline=""), strict=True))

    @classmethod
    def _of_lines(cls, name: str, lines: Any) -> Self:
        try:
            head, *rest = [[cell.strip() for cell in line] for line in lines] or [[]]
        except csv.Error as error:
            raise InvalidSetting(
                f"{name} line {lines.line_num}",
                f"It cannot be read: {error}.",
                remedy="close each quote, and write CSV.",
            ) from None
        while rest and not any(
            rest[-1]
        ):  # empty lines at the end, also those with commas only, as spreadsheets write them
            rest.pop()
        columns = tuple(head[1:])
        if head[:1] != [FRAME] or not columns:
            raise InvalidSetting(
                f"{name} line 1",
                f"It is {shown(','.join(head))}{_other_delimiter(head)}.",
                remedy=f"it must be `{FRAME}` and the keys that differ, such as `{FRAME},camera.fovy`.",
            )
        for index, column in enumerate(columns):
            if problem := _column_problem(column, columns[:index]):
                raise InvalidSetting(f"{name} line 1, {column or f'column {index + 2}'}", problem)
        if len(rest) * len(columns) > _MOST_CELLS:
            raise InvalidSetting(name, f"has more than {_MOST_CELLS:,} values.", remedy="write the movie as several.")
        rows = tuple(_row(name, number, line, columns) for number, line in enumerate(rest, 2))
        if not rows:
            raise InvalidSetting(
                f"{name} line 2", "missing: a line for each frame of the movie", remedy="write a line for each frame."
            )
        return cls.model_construct(columns=columns, rows=rows)


def _other_delimiter(head: list[str]) -> str:
    """What to say of a first line whose columns are divided by something else than commas."""
    found = next((word for sign, word in ((";", "semicolons"), ("\t", "tabs")) if any(sign in one for one in head)), "")
    return f", with {found} where commas are taken" if found else ""


def _column_problem(column: str, before: Iterable[str]) -> str:
    word, _, rest = column.partition(".")
    if not column:
        return "a column without a name"
    if column in before:
        return "is there twice"
    if word not in WORDS or not rest:
        return f"cannot differ from frame to frame; what can begins with {', '.join(f'{one}.' for one in WORDS)}"
    if word == "models" and rest.partition(".")[2].split(".")[0] not in OF_A_MODEL:
        return f"cannot differ from frame to frame, since the model would be loaded anew; of a model can: {', '.join(OF_A_MODEL)}"
    return ""


def _row(name: str, number: int, line: list[str], columns: tuple[str, ...]) -> tuple[Cell, ...]:
    where, frame = f"{name} line {number}", number - 2
    if len(line) != len(columns) + 1:
        raise InvalidSetting(
            where,
            f"has {len(line)} values; the first line names {len(columns) + 1}",
            remedy="give each column a value, and no more.",
        )
    if not re.fullmatch(r"[0-9]{1,8}", line[0]):
        raise InvalidSetting(f"{where}, {FRAME}", f"must be the frame's number, not {line[0][:60]!r}")
    if int(line[0]) != frame:
        gap = (
            f"frame {frame} is missing"
            if int(line[0]) > frame
            else f"frame {int(line[0])} is there twice, or out of order"
        )
        raise InvalidSetting(f"{where}, {FRAME}", f"{gap}.", remedy="give each frame a line, from 0 on.")
    for column, cell in zip(columns, line[1:], strict=True):
        if not cell:
            raise InvalidSetting(f"{where}, {column}", "is empty.", remedy=f"give frame {frame} a value.")
    return tuple(_value(cell) for cell in line[1:])


def _value(cell: str) -> Cell:
    if _NUMBER.fullmatch(cell):
        number = float(cell)
        return int(cell) if re.fullmatch(r"[-+]?[0-9]{1,15}", cell) else number
    return {"true": True, "false": False}.get(cell.lower(), cell)


class Binding:
    """The keys of a specification that a table's columns are bound to.

    :param specification: whose keys they are; what is a part of its own and left out is taken as Brayns has it.
    :raises InvalidSetting: a column is bound to nothing.
    """

    def __init__(self, specification: BaseModel, columns: Iterable[str]) -> None:
        self._paths = [column.split(".") for column in columns]
        self._base: dict[str, Any] = specification.model_dump(mode="json", exclude={"per_frame"})
        for path in self._paths:
            try:
                _open_up(self._base, specification, path)
            except (KeyError, IndexError, ValueError) as error:
                told = error.args[0] if error.args else "there is nothing of that name"
                raise InvalidSetting(f"per_frame, {'.'.join(path)}", str(told)) from None

    def values(self, row: tuple[Cell, ...]) -> dict[str, Any]:
        """The specification's plain values with those of a row."""
        found = self._base
        for path, cell in zip(self._paths, row, strict=True):
            found = _with(found, path, cell)
        return found


def _with(node: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    if isinstance(node, list):
        at = int(path[0])
        return [*node[:at], _with(node[at], path[1:], value), *node[at + 1 :]]
    return {**node, path[0]: _with(node.get(path[0]), path[1:], value)}


def _open_up(node: dict[str, Any], part: BaseModel, path: list[str]) -> None:
    """See that each step of a path is there, and make the parts on it that are left out.

    :raises ValueError: a step leads nowhere; the text says why.
    """
    name, *rest = path
    field = type(part).model_fields.get(name)
    if field is None:
        raise ValueError(unknown_key(name, list(type(part).model_fields)))
    value = getattr(part, name)
    if value is None and rest:
        value = _usual(field.annotation, name)
        node[name] = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    if isinstance(value, BaseModel) and rest:
        _open_up(node[name], value, rest)
    elif isinstance(value, dict) and rest:
        _expect(len(rest) == 1, f"{'.'.join(rest[1:])} leads nowhere")
    elif isinstance(value, tuple) and rest:
        _expect(
            rest[0].isdecimal() and int(rest[0]) < len(value),
            f"{name} has no {rest[0]}: it has {len(value)}, the first is 0" if value else f"{name} is empty",
        )
        one = value[int(rest[0])]
        if isinstance(one, BaseModel) and rest[1:]:
            _open_up(node[name][int(rest[0])], one, rest[1:])
        else:
            _expect(not isinstance(one, BaseModel), f"name what of {name}.{rest[0]} differs")
            _expect(not rest[1:], f"{'.'.join(rest[1:])} leads nowhere")
    else:
        _expect(not rest, f"{'.'.join(rest)} leads nowhere: {name} is one value")
        whole = part_in(field.annotation) is not None or isinstance(value, dict)
        _expect(not whole, f"is not one value; name what of {name} differs")


def _expect(right: bool, otherwise: str) -> None:
    if not right:
        raise ValueError(otherwise)


def _usual(annotation: Any, name: str) -> Any:
    """What a part is that a specification leaves out."""
    if (part := part_in(annotation)) is not None and not any(get_origin(one) is tuple for one in get_args(annotation)):
        with contextlib.suppress(ValidationError):
            return part()
    raise ValueError(f"the specification has no {name}: give it there first, the table says how it goes on")
