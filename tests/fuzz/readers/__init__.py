"""What comes back, damaged: nothing of it may hang, crash with an error that is not ours, or be believed.

Each case takes a `Random` and reads one damaged answer; it raises `Finding` for what must not be. Any error that is not this
package's own counts as one too.
"""

from __future__ import annotations

from tests.fuzz.readers.checks import Case
from tests.fuzz.readers.cluster import answers, framed, status
from tests.fuzz.readers.fields import fields, specifications, templated
from tests.fuzz.readers.movie import facts, pictures, replies
from tests.fuzz.readers.rendering import encoded, manifests, stored
from tests.fuzz.readers.services import logs, ports, said

READERS: dict[str, Case] = {
    "said": said, "status": status, "answers": answers, "framed": framed, "ports": ports, "logs": logs, "facts": facts, "replies": replies, "pictures": pictures,
    "manifests": manifests, "stored": stored, "encoded": encoded, "specifications": specifications, "fields": fields, "templated": templated,
}  # fmt: skip
