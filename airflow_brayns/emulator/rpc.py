"""What a request and its answer are: values that the socket side and the methods share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PARSE_ERROR, INVALID_REQUEST = -32700, -32600
METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR, CANCELLED = -32601, -32602, -32603, 20
_WITHOUT_CODE = 0

Progress = Callable[[str, float], None]


class RpcError(Exception):
    """An error reply.

    :param data: What is wrong with the parameters, a line each.
    """

    def __init__(self, code: int, message: str, data: list[str] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


def invalid_request(message: str) -> RpcError:
    """The request makes no sense in the present state."""
    return RpcError(INVALID_REQUEST, message)


def invalid_params(message: str, data: list[str] | None = None) -> RpcError:
    """The parameters are refused."""
    return RpcError(INVALID_PARAMS, message, data)


def internal(message: str) -> RpcError:
    """Whatever the real service's engine throws."""
    return RpcError(INTERNAL_ERROR, message)


def without_code(message: str) -> RpcError:
    """Some of the real service's errors have code 0."""
    return RpcError(_WITHOUT_CODE, message)


def cancelled() -> RpcError:
    """The request was given up because its client asked for it."""
    return RpcError(CANCELLED, "Task has been cancelled")


@dataclass
class Call:
    """One request as a method sees it."""

    params: Any
    binary: bytes
    progress: Progress
    cancelled: Callable[[], bool]


@dataclass
class Reply:
    """A result and, for pictures, the bytes that follow it; None where no picture is sent."""

    result: Any
    binary: bytes | None = None


Method = Callable[[Call], Any]
