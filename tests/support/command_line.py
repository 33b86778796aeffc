"""`airflow brayns …` in this process, from its own table of commands, with a database of its own."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.cli.definition import get_commands


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def both(self) -> str:
        return self.out + self.err


class CommandLine:
    """Runs commands as Airflow's parser would."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> Said:
        parser = argparse.ArgumentParser()
        _add(parser, list(get_commands()))
        self._capsys.readouterr()
        code, more = 0, ""
        try:
            args = parser.parse_args(["brayns", *words])
            args.func(args)
        except SystemExit as end:  # as the interpreter does
            code, more = (end.code or 0, "") if isinstance(end.code, int | None) else (1, f"{end.code}\n")
        said = self._capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Said(int(code), said.out, said.err + more)


def _add(parser: argparse.ArgumentParser, commands: list[Any]) -> None:
    below = parser.add_subparsers(required=True)
    for one in commands:
        more = below.add_parser(one.name)
        if hasattr(one, "subcommands"):
            _add(more, list(one.subcommands))
        else:
            for argument in one.args:
                argument.add_to_parser(more)
            more.set_defaults(func=one.func)


@pytest.fixture
def airflow_brayns_command(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A fresh Airflow's, without a mark: a session to put things in with."""
    import airflow.settings
    from airflow.models import Connection, Variable
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagrun import DagRun
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.serialized_dag import SerializedDagModel
    from sqlalchemy import create_engine, event
    from sqlalchemy.orm import scoped_session, sessionmaker

    models = (Connection, Variable, DagRun, DagVersion, RenderedTaskInstanceFields, SerializedDagModel)
    engine = create_engine(f"sqlite:///{tmp_path / 'airflow.db'}")
    event.listen(engine, "connect", lambda made, _: made.execute("PRAGMA synchronous=OFF"))  # a scratch one
    Connection.metadata.create_all(engine, tables=[one.__table__ for one in models])
    sessions = scoped_session(sessionmaker(engine, expire_on_commit=False))
    monkeypatch.setattr(airflow.settings, "Session", sessions)
    monkeypatch.delenv("AIRFLOW__BRAYNS__INSTALLATION_ID", raising=False)
    with sessions() as session:
        yield session
    sessions.remove()
    engine.dispose()
