"""Every field that reaches a shell, a path, an sbatch option, a JSON-RPC message or a template, with hostile values in it.

Each sender puts a pool of values through the real code and the real shell, and checks that each arrived byte for byte or was
refused by an error that names its field. What is executed on the way, the bench notices.
"""

from __future__ import annotations

from tests.fuzz.senders.brayns import messages, services
from tests.fuzz.senders.cluster import asks, files, local_services, names, steps
from tests.fuzz.senders.common import Quoting as Quoting
from tests.fuzz.senders.common import Sender
from tests.fuzz.senders.rendering import encodings, stores
from tests.fuzz.senders.submission import cuts, requests, submissions, words
from tests.fuzz.senders.task import templates

ALL: dict[str, tuple[Sender, int]] = {
    # sender, and how many values of a round's 300 it takes: those that start many processes take few
    "words": (words, 300), "requests": (requests, 60), "services": (services, 60), "submissions": (submissions, 2), "cuts": (cuts, 4), "names": (names, 10),
    "steps": (steps, 40), "asks": (asks, 20), "files": (files, 40), "stores": (stores, 2), "encodings": (encodings, 3), "messages": (messages, 100),
    "templates": (templates, 20), "local services": (local_services, 0),
}  # fmt: skip
