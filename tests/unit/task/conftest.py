from __future__ import annotations

from tests.support.local import cluster, context, state

__all__ = ["cluster", "context", "state"]
