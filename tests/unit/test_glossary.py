"""The glossary explains the words that the package is built of: what a module is named after is in it, and nothing dead is."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

import airflow_brayns

PACKAGE = Path(airflow_brayns.__file__).parent
DOCS = PACKAGE.parent / "docs"
GLOSSARY = (DOCS / "glossary.rst").read_text()
TERMS = re.findall(r"^   (\S.*)$", GLOSSARY, re.MULTILINE)
ROOMS = ("brayns", "cluster", "services", "movie", "rendering")
# Modules that are named after a word of the glossary which is spelled otherwise there.
OTHERWISE = {
    "readiness": "rung of readiness", "orphans": "orphan", "render_lease": "lease", "service_log": "service", "service_pool": "source of services",
    "endpoint_pool": "source of services", "endpoints": "endpoint", "in_use": "in use", "watch": "look", "waiting": "look", "finding": "look",
    "submission": "incarnation", "shared_state": "worker", "queue": "queue of frames", "waiter": "look", "failing": "failing node", "frame_folder": "frame store",
    "cluster_frames": "frame store", "frame_checks": "frame store", "frames_script": "frame store", "parts": "part file", "stream": "usable", "probes": "rung of readiness",
    "script_call": "script", "script_digest": "script", "script_file": "script", "script_import": "script", "script_named": "script", "script_order": "script",
    "script_output": "script", "script_run": "script", "script_service": "script", "script_thread": "script", "script_traceback": "script",
    "script_wanted": "script", "render_call": "render call", "frame_store": "frame store", "holding": "session", "extending": "extension", "used": "ledger", "restarts": "set aside",
    "tiles": "tile", "join": "tile",
    "overlays": "overlay", "overlay_fields": "overlay", "overlay_layers": "overlay", "overlay_pictures": "overlay", "drawn": "overlay",
}  # fmt: skip
# Modules whose names mean what they mean everywhere, or are somebody else's.
PLAIN = {
    "answers", "broken_connection", "camera", "camera_curve", "camera_fields", "client", "codecs", "command", "connection_test", "easing", "encode", "encode_request", "fetch", "ffmpeg", "fields", "files", "file_template", "form", "former", "frame_table", "images",
    "interfaces", "lights", "literal", "loaders", "local", "location", "model", "model_files", "offers", "official", "places", "protocol", "reconnect", "render", "rendered", "renderer", "request", "sbatch_errors", "scale", "scene",
    "scene_calls", "scene_facts", "settings", "shapes", "shell", "shots", "simulation", "slices", "slurm", "ssh", "surface", "tasks", "tls", "versions", "websocket", "words", "yaml_text",
}  # fmt: skip


def modules() -> list[str]:
    return sorted({path.stem for room in ROOMS for path in (PACKAGE / room).glob("*.py")} - {"__init__"})


def test_the_glossary_is_read_as_terms() -> None:
    assert {"keeper", "lease", "rung of readiness", "set aside"} <= set(TERMS)
    assert not [term for term in TERMS if TERMS.count(term) > 1]


@pytest.mark.parametrize("module", modules())
def test_what_a_module_is_named_after_is_explained(module: str) -> None:
    assert module in PLAIN or OTHERWISE.get(module, module) in TERMS, (
        f"{module}: explain the word in docs/glossary.rst, or say here that it needs none"
    )


def test_no_module_is_excused_that_is_not_there() -> None:
    assert not (PLAIN | OTHERWISE.keys()) - set(modules())


@cache
def texts() -> list[str]:
    """All that is said outside the glossary."""
    return [path.read_text() for path in (*PACKAGE.rglob("*.py"), *DOCS.rglob("*.rst")) if path.name != "glossary.rst"]


@pytest.mark.parametrize("term", TERMS)
def test_each_word_that_is_explained_is_used(term: str) -> None:
    word = re.compile(rf"\b{re.escape(term).replace(chr(92) + ' ', '[ -]')}(s|es)?\b", re.IGNORECASE)
    assert any(word.search(text) for text in texts()), f"nobody says {term!r} any more"
