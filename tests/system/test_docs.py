"""The commands of README.md and docs/, page by page, as somebody types them who reads from the top: in a home of their own, on this machine
as the cluster. What needs a site is not run; the reasons are printed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import REPO, USER, TestCluster
from tests.support.reader import blocks

BLOCKS = [block for block in blocks() if block.language == "bash"]
PAGES = sorted({block.page for block in BLOCKS})
# Lines that are not run, by a pattern, with the reason.
NOT_RUN = {
    r"^make (demo|test)\b": "`system/test_demo.py`; the tests themselves",
    r"^pip (un)?install\b": "`system/test_wheel.py` installs the package so; the rest is Airflow's",
    r"^(ssh|scp) ": "there is no login.example.org",
    r"^airflow connections test site_login": "there is no login.example.org",
    r"^rm -rf ~/\.airflow-brayns": "would be the test's own allocations",
}

ON_A_CLUSTER = {"docs/how-to/site.rst": "`test_the_walk_to_a_cluster` follows it on the test cluster"}
ABOUT_A_CONNECTION = ("docs/how-to/test.rst", "docs/how-to/uninstall.rst")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Airflow with the example DAGs and the README's, a movie's specification, and no connection."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(REPO / "dags", folder / "airflow" / "dags")
    readme = (REPO / "README.md").read_text()
    (folder / "airflow" / "dags" / "my_picture.py").write_text(
        re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)[0]
    )
    shutil.copytree(REPO / "dags" / "movies", folder / "data" / "movies")
    shutil.copytree(REPO / "dags" / "scenes", folder / "data" / "scenes")
    shutil.copy(folder / "data" / "movies" / "neuron.yaml", folder / "data" / "movie.yaml")
    for file in (folder / "data" / "movies").iterdir():
        shutil.copy(file, folder)
    for words in (["db", "migrate"], ["dags", "reserialize"]):  # a DAG processor runs where somebody triggers
        subprocess.run(["airflow", *words], env=environment(folder), cwd=folder, check=True, capture_output=True)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """A reader's environment: with a database of the home's own, since the one that `airflow.cfg` names stays the first home's in a copy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "BRAYNS"))}
    return {
        **kept, "HOME": str(folder), "AIRFLOW_HOME": str(folder / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "airflow" / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow/airflow.db", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip


def script(page: str) -> tuple[str, list[str]]:
    """A page's commands, and those that are left out, with the reason."""
    if page in ON_A_CLUSTER:
        return "true\n", [f"all of it   ({ON_A_CLUSTER[page]})"]
    lines, left_out = [], []
    for block in BLOCKS:
        if block.page == page:
            text = re.sub(r"\\\n\s*", "", block.text)
            for line in text.splitlines():
                reason = next((why for pattern, why in NOT_RUN.items() if re.search(pattern, line)), "")
                (left_out if reason else lines).append(f"{line}   ({reason})" if reason else as_own(line))
    return "\n".join(lines) + "\n", left_out


def as_own(line: str) -> str:
    return re.sub(r"(?<![\w/])/data/", "data/", line)


@pytest.fixture
def own(home: Path, page: str, tmp_path: Path) -> Path:
    """A home for one page: what another page has changed is not there."""
    folder = tmp_path / "home"
    shutil.copytree(home, folder)
    shutil.copytree(home / "data" / "scenes", tmp_path / "scenes")  # `../scenes` of a file that lies in the home
    (folder / ".airflow-brayns").mkdir(mode=0o700)  # somebody has used it
    if page in ABOUT_A_CONNECTION:
        extra = '{"scheduler": "local", "executable": "brayns-emulator"}'
        words = ["connections", "add", "brayns_default", "--conn-type", "brayns_cluster", "--conn-extra", extra]
        subprocess.run(["airflow", *words], env=environment(folder), check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_a_pages_commands_do_what_they_say(page: str, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, left_out = script(page)
    with capsys.disabled():
        for line in left_out:
            print(f"\nnot run: {page}: {line}", end="")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], env=environment(own), cwd=own, capture_output=True, text=True, check=False, timeout=900
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr, done.stderr[-3000:]


@pytest.mark.slurm
def test_the_walk_to_a_cluster(running_slurm: TestCluster, home: Path, tmp_path: Path) -> None:
    """The page as it stands there; only the site's own names are others."""
    keys = running_slurm.folder / "keys"
    folder = tmp_path / "home"
    shutil.copytree(home, folder)
    (folder / ".ssh").mkdir(mode=0o700)
    shutil.copy(keys / "user", folder / ".ssh" / "id_ed25519")
    shutil.copy(keys / "known_hosts", folder / ".ssh" / "known_hosts")
    (folder / "data").mkdir(exist_ok=True)
    own = {
        "--conn-host login.example.org --conn-login jane": f"--conn-host 127.0.0.1 --conn-port 2222 --conn-login {USER}",
        "ssh jane@login.example.org": f"ssh -i {folder}/.ssh/id_ed25519 -o UserKnownHostsFile={folder}/.ssh/known_hosts -p 2222 {USER}@127.0.0.1",
        "scp ~/airflow/dags/scenes/neuron.swc jane@login.example.org:": f"scp -i {folder}/.ssh/id_ed25519 -o UserKnownHostsFile={folder}/.ssh/known_hosts -P 2222 ~/airflow/dags/scenes/neuron.swc {USER}@127.0.0.1:walk.swc",
        "module purge; module load unstable brayns/latest; braynsService": running_slurm.executable,
        '"setup": "source /etc/profile\\nmodule purge\\nmodule load unstable brayns/latest"': f'"executable": "{running_slurm.executable}"',
        "/home/jane/neuron.swc": f"/home/{USER}/walk.swc",  # the cluster's own neuron.swc is root's
        "/data/first.mp4": f"{folder}/data/first.mp4",
    }  # fmt: skip
    text = "".join(block.text for block in BLOCKS if block.page == "docs/how-to/site.rst")
    for there, here in own.items():
        assert there in text, there
        text = text.replace(there, here)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], env=environment(folder), cwd=folder, capture_output=True, text=True, check=False, timeout=1500
    )  # fmt: skip
    told = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, told
    assert (folder / "data" / "first.mp4").stat().st_size > 1000, told
    assert "is usable" in done.stdout + done.stderr
    running_slurm.empty(10)


def test_little_is_left_out() -> None:
    assert sum(len(script(page)[1]) for page in PAGES if page not in ON_A_CLUSTER) <= 10
