"""Files as the cluster sees them, and a program that is copied there once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from airflow_brayns.cluster.files import identity, install
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.errors import ConnectionLost, StateFolderFull
from tests.support.shell import FakeShell, answering


async def test_size_and_time_of_files_are_as_the_cluster_sees_them() -> None:
    cluster, shell = answering("file 12 1700000000\nunknown\n")
    assert await identity(cluster, ["/a b", "/c"]) == "12 1700000000\nunknown"
    assert shell.last() == "identify '/a b' /c"


# ---- programs ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "ffmpeg"
    file.write_bytes(b"a program")
    return file


async def test_on_this_machine_a_program_is_where_it_is(program: Path) -> None:
    shell = FakeShell()
    assert await install(LocalCluster(shell), program) == str(program)
    assert shell.commands == 0


async def test_a_program_that_is_there_whole_is_not_copied_again(program: Path) -> None:
    cluster, shell = answering("program /s/bin/ffmpeg-x\nthere\n")
    assert await install(cluster, program) == "/s/bin/ffmpeg-x"
    assert not shell.files
    digest = hashlib.sha256(b"a program").hexdigest()
    assert f"ffmpeg-{digest[:12]}" in shell.scripts[0]
    assert digest in shell.scripts[0]


async def test_a_program_is_copied_beside_its_place_and_put_there_when_it_is_whole(program: Path) -> None:
    """A half-written one is never run."""
    answers = iter(["program /s/bin/ffmpeg-x\n", "installed\n"])
    cluster, shell = answering("")
    shell.answers = lambda _: next(answers)
    assert await install(cluster, program) == "/s/bin/ffmpeg-x"
    [(partial, content)] = shell.files.items()
    assert partial.startswith("/s/bin/ffmpeg-x.")
    assert content == b"a program"
    assert shell.last() == f"keep_program {partial} /s/bin/ffmpeg-x {hashlib.sha256(content).hexdigest()}"


async def test_a_program_that_did_not_arrive_is_an_error(program: Path) -> None:
    answers = iter(["program /s/bin/ffmpeg-x\n", "\n"])
    cluster, shell = answering("")
    shell.answers = lambda _: next(answers)
    with pytest.raises(ConnectionLost, match="ffmpeg did not arrive whole in /s/bin/ffmpeg-x"):
        await install(cluster, program)


async def test_a_program_for_which_the_folder_has_no_room_says_so(program: Path) -> None:
    """It was copied, and cannot be put into its place: to copy it once more does not help."""
    answers = iter(["program /s/bin/ffmpeg-x\n", "full /s\n"])
    cluster, shell = answering("")
    shell.answers = lambda _: next(answers)
    with pytest.raises(StateFolderFull):
        await install(cluster, program)
    assert shell.last().startswith("keep_program ")


async def test_a_copy_that_breaks_since_the_folder_is_full_says_so(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def put(*_: object) -> None:
        raise ConnectionLost("it broke")

    for last, error in (("full /s", StateFolderFull), ("", ConnectionLost)):
        answers = iter(["program /s/bin/ffmpeg-x\n", f"{last}\n"])
        cluster, shell = answering("")
        monkeypatch.setattr(shell, "put", put)
        shell.answers = lambda _, answers=answers: next(answers)
        with pytest.raises(error):
            await install(cluster, program)
        assert shell.last().startswith("drop_program /s/bin/ffmpeg-x.")
