"""Every block of README.md and docs/ is tried as a reader would: Python is run, settings and specifications are read, commands are
known to Airflow with the options that they have there. `system/test_docs.py` runs the commands, `system/test_wheel.py` the README's
first DAG.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest
import yaml
from airflow.sdk.exceptions import AirflowException

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.provider import get_provider_info
from airflow_brayns.services.settings import CONNECTION_TYPE, ClusterSettings
from airflow_brayns.task.guard import guarded
from tests.support.cluster import REPO
from tests.support.reader import Block, blocks

PACKAGE = REPO / "airflow_brayns"
BLOCKS = blocks()
# What no reader runs: by page and the block's first words, with the reason.
NOT_RUN = {
    ("docs/how-it-works.rst", "<state_dir>/<name>/<n>/"): "a drawing of folders",
    ("docs/how-it-works.rst", "dags/"): "a drawing of the rooms",
    ("docs/how-to/executors.rst", "cluster_conn_id: have all"): "a message; `operators/test_release.py` makes it",
}
# What stands for something of the reader's own.
GIVEN = """
import socket
from contextlib import ExitStack
from types import SimpleNamespace
from airflow.sdk import DAG, Asset, task
from airflow_brayns import *
"""


def named(block: Block) -> str:
    first = next(line for line in block.text.splitlines() if line.strip()).strip()
    return next(
        (reason for (page, words), reason in NOT_RUN.items() if page == block.page and first.startswith(words)), ""
    )


def of(*languages: str) -> Any:
    found = [block for block in BLOCKS if block.language in languages and not named(block)]
    return pytest.mark.parametrize("block", found, ids=str)


def test_each_block_is_tried_or_has_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    known = {"python", "json", "yaml", "bash", "ini", "text"}
    with capsys.disabled():
        for block in BLOCKS:
            if reason := named(block):
                print(f"\nnot run: {block}: {reason}", end="")
    assert [str(block) for block in BLOCKS if block.language not in known and not named(block)] == []
    assert [
        str(block) for block in BLOCKS if block.language == "text" and not named(block) and block.caption not in TEXTS
    ] == []
    assert len([block for block in BLOCKS if named(block)]) == len(NOT_RUN) <= 6, "a reason outlived its block"
    assert len(BLOCKS) > 50


@of("python")
def test_python_is_run(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of `dags/` as a whole, a part of a DAG in a DAG; the rest with a client and an endpoint of the reader's own."""
    import airflow.sdk

    seen: dict[str, Any] = {"__name__": "a_dag", "__file__": str(REPO / "dags" / "one.py")}
    if "import brayns\n" in block.text and sys.version_info >= (3, 13):
        pytest.skip("the official client does not import on Python 3.13 (facts/brayns.md)")
    if whole := file_of(block):
        exec(compile(whole, str(block), "exec"), seen)
    elif "open_endpoint(endpoint" in block.text or "listener" in block.text:
        talks(block, seen, monkeypatch)
    elif "@dag" in block.text:
        exec(compile(block.text, str(block), "exec"), seen)
    else:
        exec(GIVEN, seen)
        with airflow.sdk.DAG("readers", schedule=None) as dag:
            exec(compile(block.text, str(block), "exec"), seen)
        assert dag.task_ids, "a part of a DAG makes tasks"


def file_of(block: Block) -> str:
    """The file of `dags/` that a page shows a part of: the reader has it."""
    for path in (REPO / "dags").rglob("*.py"):
        if all(line.strip() in (text := path.read_text()) for line in block.text.splitlines()):
            return text
    return ""


def talks(block: Block, seen: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs somebody at the other end."""
    import contextlib
    import socket
    import threading
    import time
    from types import SimpleNamespace

    if "listener" in block.text:
        over = threading.Event()

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                while not over.is_set():
                    with contextlib.suppress(OSError):  # nobody listens yet
                        sender.sendto(b"airflow.brayns.frames:1|c", ("127.0.0.1", 8125))
                    time.sleep(0.05)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            exec(block.text, seen)
        finally:
            over.set()
            sender.join()
        return
    asked: list[str] = []

    @contextlib.contextmanager
    def near(endpoint: str, conn_id: str) -> Any:
        asked.append(endpoint)
        yield "127.0.0.1:1"

    brayns = SimpleNamespace(Connector=lambda at: SimpleNamespace(connect=lambda: asked.append(at)))
    exec(block.text.replace("from airflow_brayns import open_endpoint\n", ""), {**seen, "open_endpoint": near, "endpoint": "n1:5000", "brayns": brayns})  # fmt: skip
    assert asked == ["n1:5000", "127.0.0.1:1"]


def test_a_callback_that_the_metrics_page_gives_finds_whose_fault_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """The error is a field of the exception; it was read from the cause, which is none."""
    import airflow.sdk

    [block] = [block for block in BLOCKS if block.page.endswith("metrics.rst") and "def tell" in block.text]
    seen: dict[str, Any] = {}
    exec(GIVEN, seen)
    with airflow.sdk.DAG("readers", schedule=None):
        exec(compile(block.text, str(block), "exec"), seen)
    with pytest.raises(AirflowException) as caught, guarded:
        raise InvalidSetting("account", "is none of yours.")
    seen["tell"]({"exception": caught.value, "ti": SimpleNamespace(task_id="service")})
    assert "service: whoever wrote account: " in capsys.readouterr().out


@of("json")
def test_settings_are_read(block: Block) -> None:
    found = json.loads(block.text)
    for extras in (
        [found]
        if not any(isinstance(one, dict) and "conn_type" in one for one in found.values())
        else [one["extra"] for one in found.values() if one["conn_type"] == CONNECTION_TYPE]
    ):
        ClusterSettings.read(extras)


@of("yaml")
def test_specifications_are_read(block: Block) -> None:
    read = yaml.safe_load(block.text)
    if "Prometheus" not in block.caption:
        MovieSpecification.read(block.text, folder=REPO / "dags" / "movies")
        return
    reference = (REPO / "docs" / "reference.rst").read_text()
    for rule in read["groups"][0]["rules"]:
        [metric] = re.findall(r"airflow_brayns_(\w+)", rule["expr"])
        assert f"``brayns.{metric}``" in reference


@of("ini")
def test_settings_of_airflow_are_known(block: Block) -> None:
    from airflow.configuration import retrieve_configuration_description

    known = {**retrieve_configuration_description(include_providers=False), **get_provider_info()["config"]}
    read = configparser.ConfigParser(interpolation=None)
    read.read_string(block.text)
    assert [f"[{section}] {name}" for section in read.sections() for name in read[section] if name not in known[section]["options"]] == []  # fmt: skip


@of("text")
def test_a_text_is_read_as_what_its_caption_says(block: Block, tmp_path: Path) -> None:
    TEXTS[block.caption](block, tmp_path)


def read_ssh_config(block: Block, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(block.text)
    asyncssh.SSHClientConnectionOptions(config=[str(tmp_path / "config")], host="login.example.org", client_keys=[])


def read_table(block: Block, tmp_path: Path) -> None:
    ball = {"kind": "plane", "coefficients": [0, 1, 0, 0]}
    words = {"models": [{"path": "/a.obj"}], "lights": [{"kind": "ambient"}], "clipping": [ball]}
    (tmp_path / block.caption).write_text(block.text)
    found = MovieSpecification.check({**words, "per_frame": block.caption}, folder=tmp_path)
    assert found.frames == len(block.text.strip().splitlines()) - 1


TEXTS = {"~/.ssh/config": read_ssh_config, "values.csv": read_table}


@cache
def parser() -> argparse.ArgumentParser:
    from airflow.cli.cli_parser import get_parser

    return get_parser()


def commands(block: Block) -> list[list[str]]:
    """Each command of a block, as a shell splits it, without what stands before and behind it."""
    text = re.sub(r"\\\n", " ", block.text)
    found, rest = [], ""
    for line in text.splitlines():
        rest += line
        try:
            words = shlex.split(rest, comments=True)
        except ValueError:  # a quoted text of several lines
            rest += "\n"
            continue
        rest = ""
        if words:
            found.append(words)
    assert not rest, "a quote that is not closed"
    return found


def check_names(words: list[str]) -> None:
    """A DAG of ours has the task and the parameters that are named."""
    known = {dag.dag_id: dag for dag in dags()}
    dag = next((known[word] for word in words if word in known), None)
    if dag is None:
        assert words[1] not in ("dags", "tasks") or words[3] == "my_picture", words
    elif words[1:3] == ["brayns", "script"]:
        assert words[4] in dag.task_ids
    elif "-c" in words:
        assert set(json.loads(words[words.index("-c") + 1])) <= set(dag.params)


@cache
def dags() -> list[Any]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(REPO / "dags"), bundle_name="docs")
    assert not bag.import_errors
    return list(bag.dags.values())


@of("bash")
def test_commands_are_known(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(block):
        words = words[: words.index(">")] if ">" in words else words
        while re.match(r"[A-Z_]+=", words[0]):  # variables for this command
            words = words[1:]
        if words[0] == "airflow":
            parser().parse_args(words[1:])
            check_names(words)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (REPO / "Makefile").read_text(), re.MULTILINE), words
        else:
            assert words[0] in ("export", "pip", "ssh", "scp", "find", "rm", "cp", "cd", "git"), words


@cache
def told_by_the_package() -> str:
    """Every text of the package's Python and shell, with `…` for what differs."""
    found = [path.read_text() for path in PACKAGE.rglob("*.sh")]
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
                found.append("".join(parts))
    return "\n".join(" ".join(text.split()) for text in found)


def messages() -> list[str]:
    text = (REPO / "docs" / "troubleshooting.rst").read_text()
    return re.findall(r"^``(.*)``\n   \S", text, re.MULTILINE)


@pytest.mark.parametrize("message", messages())
def test_a_message_of_the_troubleshooting_page_is_one_that_the_package_tells(message: str) -> None:
    for part in message.split("…"):
        assert part.strip() in told_by_the_package(), f"no such words any more: {part!r}"
    assert any(len(part.strip()) > 8 for part in message.split("…"))


def test_the_troubleshooting_page_has_the_commonest_faults() -> None:
    assert len(messages()) >= 25


def test_what_is_cleared_away_by_hand_has_ended_for_more_than_a_day(tmp_path: Path) -> None:
    [block] = [block for block in BLOCKS if block.page.endswith("retention.rst") and block.language == "bash"]
    places = [
        tmp_path / ".airflow-brayns" / place / "ab-0123456789ab000"
        for place in (".", ".ab-finished/20500/ab-0123456789ab")
    ]
    for place in places:
        for name, end, days in (("1", "ended", 3), ("2", "ended", 0.1), ("3", "heartbeat", 3)):
            file = place / name / end
            file.parent.mkdir(parents=True)
            file.touch()
            os.utime(file, (time.time() - days * 86400,) * 2)
    subprocess.run(["bash", "-euc", block.text], env={**os.environ, "HOME": str(tmp_path)}, check=True)
    assert [sorted(path.name for path in place.iterdir()) for place in places] == [["2", "3"]] * 2
