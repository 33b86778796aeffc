"""What 'alike' means, for one exchange.

Compared:

- whether a reply came at all, and whether in a text or a binary frame; where they were kept, the first bytes of what
  followed it (so the kind of picture);
- the first message of progress: operation and amount (how many more there are depends on how long a picture takes);
- the id; result or error; an error's code, message and every line of its data;
- a result's keys, types and values, at every depth, lists in their order; numbers to 1 part in 100,000, since the
  recorded ones are sums of 32-bit floats.

Not compared, because it depends on build or rendering:

- `revision` of `get-version`;
- a picture here: whether it is the same as another one is looked at in `tests/truth/replay.py`, and how like a recorded one it
  is in `tests/truth/pictures.py`;
- the size of a picture's file (`color_buffer.size`), which is compared with 0 only;
- where the picked point lies and what it belongs to (`inspect`: `position`, `model_id`), since our renderer is another;
- `description` of a schema, which the recordings left out, and `title` inside schemas in the first one, which left it out;
- the order of `registry` (a hash map's);
- the 'BBP loader' where the recorded build was made without its library;
- the client's handle that `cancel` prints instead of an id.
"""

from __future__ import annotations

import math
import re
from typing import Any

from tests.truth.recordings import Exchange

_CLOSE = 1e-5
_HANDLE = re.compile(r"(No requests found with ID) \d+")


def differences(wanted: Exchange, reply: dict[str, Any] | None, data: bytes | None, told: tuple[Any, ...]) -> list[str]:
    """What is not alike; empty where all is.

    :param data: The bytes that followed the reply; None in a text frame.
    :param told: Operation and amount of the first message of progress; empty for none.
    """
    if wanted.reply is None or reply is None:
        return [] if wanted.reply is reply else [f"replied {reply}, recorded {wanted.reply}"]
    result = []
    if wanted.has_bytes != (data is not None):
        result.append(f"{'binary' if data is not None else 'text'} frame, recorded the other")
    if wanted.magic and not (data or b"").hex().startswith(wanted.magic):
        result.append(f"begins with {(data or b'')[:8].hex()}, recorded {wanted.magic}")
    if wanted.progress is not None and wanted.progress != told:
        result.append(f"progress {told}, recorded {wanted.progress}")
    return result + _differ(_usual(wanted.reply, wanted), _usual(reply, wanted), "")


def _usual(reply: dict[str, Any], wanted: Exchange) -> Any:
    """A reply without what is not compared."""
    if "error" in reply:
        error = {**reply["error"], "message": _HANDLE.sub(r"\1", reply["error"]["message"])}
        return {**reply, "error": error}
    result = reply.get("result")
    if wanted.name == "registry":
        result = sorted(result)
    if wanted.name == "get-version" or (isinstance(result, dict) and "revision" in result):
        result = {**result, "revision": "?"}
    if wanted.name == "snapshot":
        buffer = result["color_buffer"]
        result = {"color_buffer": {**buffer, "size": bool(buffer["size"])}}
    if wanted.name == "inspect":
        result = {**result, "position": ["?"] * len(result["position"]), "model_id": "?"}
    if wanted.name in ("schema", "get-loaders"):
        result = _schema(result, wanted.titles_kept)
    if wanted.name == "get-loaders" and "BBP loader" not in [one["name"] for one in wanted.reply["result"]]:
        result = [one for one in result if one["name"] != "BBP loader"]
    return {**reply, "result": result}


def _schema(value: Any, titles: bool) -> Any:
    """A schema without its texts; what is called `title` among properties stays."""
    if isinstance(value, list):
        return [_schema(item, titles) for item in value]
    if not isinstance(value, dict):
        return value
    texts = ("description",) if titles else ("description", "title")
    return {key: _schema(item, titles) for key, item in value.items() if key not in texts or isinstance(item, dict)}


def _differ(wanted: Any, got: Any, path: str) -> list[str]:
    if _number(wanted) and _number(got):
        same = wanted == got or math.isclose(wanted, got, rel_tol=_CLOSE, abs_tol=_CLOSE)
        return [] if same else [f"{path}: {got}, recorded {wanted}"]
    if type(wanted) is not type(got):
        return [f"{path}: {got!r}, recorded {wanted!r}"[:300]]
    if isinstance(wanted, dict):
        if set(wanted) != set(got):
            return [f"{path}: keys {sorted(set(got) ^ set(wanted))} differ"]
        return [line for key in wanted for line in _differ(wanted[key], got[key], f"{path}.{key}")]
    if isinstance(wanted, list):
        if len(wanted) != len(got):
            return [f"{path}: {len(got)} items, recorded {len(wanted)}"]
        pairs = enumerate(zip(wanted, got, strict=True))
        return [line for index, (one, two) in pairs for line in _differ(one, two, f"{path}[{index}]")]
    return [] if wanted == got else [f"{path}: {got!r}, recorded {wanted!r}"[:300]]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
