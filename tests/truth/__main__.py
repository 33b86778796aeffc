"""`make truth`: the table of files, then all four recordings replayed; ends with `N of M alike`.

What alike means: `tests/truth/compare.py`, and of a picture `tests/truth/pictures.py`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support.files import print_table
from tests.truth.replay import replay_all

_WANTED = 0.97


def main() -> int:
    files = print_table()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = replay_all(Path(folder))
    unlike = [outcome for outcome in outcomes if outcome.differences]
    for outcome in unlike:
        exchange = outcome.exchange
        print(
            f"{outcome.recording} {exchange.index} {exchange.name} {exchange.note}: {outcome.reason or 'NO REASON KNOWN'}"
        )
        for line in outcome.differences[:3]:
            print(f"    {line[:300]}")
    for outcome in outcomes:
        if outcome.likeness is not None:
            print(outcome.likeness)
    kept = [outcome.likeness for outcome in outcomes if outcome.likeness is not None]
    alike = [one for one in kept if not one.differences()]
    print(f"pictures that are like the recorded ones: {len(alike)} of {len(kept)}")
    compared = [outcome for outcome in outcomes if outcome.exchange.same_picture_as is not None]
    same = [outcome for outcome in compared if not any("picture" in line for line in outcome.differences)]
    print(f"pictures that are the same: {len(same)} of {len(compared)}")
    print(f"{len(outcomes) - len(unlike)} of {len(outcomes)} alike")
    return 0 if files and len(unlike) <= len(outcomes) * (1 - _WANTED) else 1


if __name__ == "__main__":
    sys.exit(main())
