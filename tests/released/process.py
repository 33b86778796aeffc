"""A process that runs the code of another version."""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Any

from tests.released import code, environment


class Process:
    """Acts (`tests.released.acts`) under a released version, one after the other; a context manager.

    :param version: which.
    :param log: where to put what it logs.
    """

    def __init__(self, version: str, log: Any = subprocess.DEVNULL) -> None:
        self.version = version
        self._log = log

    def __enter__(self) -> Process:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.released.acts"],
            cwd=code(self.version),
            env=environment(self.version),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.act("where") == str(code(self.version) / "airflow_brayns" / "__init__.py")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def act(self, act: str, environment: dict[str, str] | None = None, **arguments: Any) -> Any:
        """What an act tells.

        :param environment: variables that it is to have from now on.
        :raises AssertionError: it failed; with its traceback.
        """
        assert self._process.stdin
        assert self._process.stdout
        asked = {"act": act, "environment": environment or {}, "arguments": arguments}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the process of {self.version} has ended"
        answer = json.loads(line)
        assert "raised" not in answer, f"under {self.version}: {answer['raised']}"
        return answer["told"]
