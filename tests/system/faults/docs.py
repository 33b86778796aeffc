"""The fault table as the documentation shows it: `python -m tests.system.faults.docs` writes `docs/faults.csv` from the last results."""

from __future__ import annotations

import csv
import json

from tests.support.cluster import REPO
from tests.system.faults.report import RESULTS

TABLE = REPO / "docs" / "faults.csv"


def main() -> None:
    """A line for each row that came out as it should; one that did not has no place in a promise."""
    known = [one for one in json.loads(RESULTS.read_text()) if not (one["wrong"] or one["left"] or one["doubled"])]
    with TABLE.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("fault", "stage", "task / run end as", "jobs", "nothing left after"))
        for one in sorted(known, key=lambda one: one["name"]):
            ends = one["got"].replace("/", " / ").replace("none", "deleted")
            seconds = "" if one["clean_after"] is None else f"{one['clean_after']:.0f} s"
            out.writerow((one["row"].replace("_", " "), one["stage"], ends, one["jobs"], seconds))
    print(f"{len(known)} rows in {TABLE.relative_to(REPO)}")


if __name__ == "__main__":
    main()
