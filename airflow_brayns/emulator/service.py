"""What braynsService does with each JSON-RPC request: it is found, its parameters are checked, its method is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_brayns.emulator import schemas
from airflow_brayns.emulator.coloring import Coloring
from airflow_brayns.emulator.engine import Engine
from airflow_brayns.emulator.faults import Faults
from airflow_brayns.emulator.imaging import Imaging
from airflow_brayns.emulator.models import Models
from airflow_brayns.emulator.optics import Optics
from airflow_brayns.emulator.rpc import METHOD_NOT_FOUND, Call, Method, Reply, RpcError, invalid_params
from airflow_brayns.emulator.validation import problems, read


@dataclass
class BraynsState:
    """A running service: its engine, and a method for each entry of `schemas.methods`.

    :param quit: Ends the process once the reply to `quit` is on its way.
    """

    version: tuple[int, int, int]
    plugins: list[str]
    faults: Faults
    sandbox: Path | None = None
    quit: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.engine = Engine(self.faults, self.plugins)
        self.schemas = schemas.methods(self.plugins, self.version)
        self._methods: dict[str, Method] = {
            **Models(self.engine, schemas.loaders(self.plugins), self.sandbox).methods(),
            **Coloring(self.engine).methods(),
            **Optics(self.engine, self.version).methods(),
            **Imaging(self.engine).methods(),
            "get-version": self._get_version,
            "registry": lambda call: list(self.schemas),
            "schema": self._schema,
            "quit": lambda call: self.quit(),
            "cancel": _cancel_unknown,
        }

    def handle(self, name: str, call: Call) -> Reply:
        """Answer one request; raises `RpcError`."""
        entry = self._entry(name)
        if "params" not in entry:
            if call.params is not None:
                raise invalid_params("This method takes no params")
        else:
            found = problems(entry["params"], call.params)
            if found:
                raise invalid_params("Invalid params schema", found)
            call.params = read(entry["params"], call.params)
        result = self._methods[name](call)
        return result if isinstance(result, Reply) else Reply(result)

    def cancellable(self, name: str) -> bool:
        """Whether `cancel` has an effect on requests of this method."""
        return bool(self.schemas.get(name, {}).get("async"))

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self.schemas:
            raise RpcError(METHOD_NOT_FOUND, f"Method '{name}' not found")
        return self.schemas[name]

    def _get_version(self, call: Call) -> dict[str, Any]:
        major, minor, patch = self.version
        return {"major": major, "minor": minor, "patch": patch, "revision": "emulated"}

    def _schema(self, call: Call) -> dict[str, Any]:
        entry = self._entry(call.params["endpoint"])
        return {**entry, "description": f"See the Brayns documentation of '{entry['title']}'"}


def _cancel_unknown(call: Call) -> None:
    # The server takes a `cancel` for a request that runs or waits before it comes here. The real one prints its
    # client's handle instead of the id asked for.
    raise invalid_params("Empty task ID" if call.params["id"] is None else f"No requests found with ID {id(call)}.")
