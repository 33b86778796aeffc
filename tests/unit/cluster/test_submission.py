"""What is written to submit an allocation: the words that reach sbatch, the files of its services, whose it is."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.submission import ServiceCommand, TlsFiles, fill, proof, proofs, sbatch_line, submission
from airflow_brayns.errors import InvalidSetting

SERVICE = ServiceCommand("s1", 2, "exec braynsService\n", "5000-6000", ("s/a/b/", "s/it's/it/"))
NAME = "ab-0123456789ab000"


def submitted(**changes: object) -> str:
    values = {"name": NAME, "token": "me", "request": AllocationRequest(), "services": [SERVICE], "about": "", "keeper": KeeperSettings(), "script": "#!/bin/sh\n"}  # fmt: skip
    return submission(**{**values, **changes})  # type: ignore[arg-type]


def asked(text: str) -> str:
    return text.partition("\n")[0]


def sbatch_words(request: AllocationRequest, **environment: str) -> tuple[list[str], str]:
    """The words that sbatch would get, as a real sh makes them, and the environment it would have."""
    tell = 'env() { while [ $# -gt 0 ] && [ "$1" != sbatch ]; do printf "%s\\n" "$1"; shift; done; echo ---; shift; printf "%s\\n" "$@"; }'
    script = f"{tell}\nset -- the-name /the/folder\n{sbatch_line(request, 'a comment')}"
    out = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True, env=environment).stdout
    before, _, words = out.partition("---\n")
    return words.splitlines(), before


def test_what_is_asked_for_is_known_by_what_is_wanted_and_not_by_the_script_that_starts_it() -> None:
    """A version that starts services otherwise gave the nodes back that the former one had allocated."""
    wanted = replace(SERVICE, identity="braynsService")
    assert asked(submitted(services=[wanted])) == asked(
        submitted(services=[replace(wanted, script="exec env braynsService\n")])
    )
    assert asked(submitted(services=[wanted])) != asked(submitted(services=[replace(wanted, identity="another")]))
    assert asked(submitted()) != asked(submitted(services=[replace(SERVICE, script="another")])), (
        "without one, the script"
    )
    assert fill(wanted) == fill(SERVICE), "it is not written down"


def test_sbatch_gets_our_own_options_first_and_the_script_last() -> None:
    """A site's own option that takes the word behind it must not take one of ours."""
    words, _ = sbatch_words(AllocationRequest(partition="prod", sbatch_options=["--site"]))
    assert words == [
        "--parsable", "--no-requeue", "--signal=B:TERM@60", "--comment=a comment", "--job-name=the-name",
        "--output=/the/folder/keeper.log", "--nodes=1", "--partition=prod", "--site", "/the/folder/keeper.sh", "/the/folder",
    ]  # fmt: skip


@pytest.mark.parametrize(("nodes", "kept"), [(1, False), (2, True)])
def test_a_job_of_several_nodes_outlives_one_of_them(nodes: int, kept: bool) -> None:
    words, _ = sbatch_words(AllocationRequest(nodes=nodes))
    assert ("--no-kill" in words) is kept


def test_of_the_environment_only_what_is_named_goes_to_the_job() -> None:
    """Without ssh it is an Airflow worker's, with its secrets."""
    named = {"HOME": "/h", "USER": "u", "LOGNAME": "l", "PATH": "/usr/bin:/bin", "SLURM_CONF": "/etc/s.conf"}
    _, before = sbatch_words(AllocationRequest(), **named, AIRFLOW__CORE__FERNET_KEY="secret")
    assert before.splitlines() == ["-i", *(f"{name}={value}" for name, value in named.items())]
    _, before = sbatch_words(AllocationRequest(), PATH="/usr/bin:/bin")
    assert before.splitlines() == ["-i", "PATH=/usr/bin:/bin"], "what is not set is not set to nothing"


def test_a_services_files_are_written_whole_and_its_command_last(tmp_path: Path) -> None:
    script = f'write() {{ printf %s "$3" >"$1"; [ "$(wc -c <"$1")" = "$2" ] || exit 9; echo "${{1##*/}}"; }}\nservice_dir=$1\nf() {{\n{fill(SERVICE)}}}\nf'
    done = subprocess.run(["/bin/sh", "-c", script, "sh", tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "command"
    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert found == {
        "index": "2\n",
        "port": "5000-6000\n",
        "port.sed": "s/a/b/\ns/it's/it/\n",
        "command": "exec braynsService\n\n",
    }
    sums = "".join(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in sorted(found.items()))
    assert proof(SERVICE) == hashlib.sha256(sums.encode()).hexdigest(), (
        "the digest that `sha256sum * | sha256sum` gives on a node"
    )


@pytest.mark.parametrize("change", [{"index": 1}, {"port": "0"}, {"port_patterns": ()}, {"script": "exec other"}])
def test_whatever_is_changed_of_a_service_is_another_proof(change: dict[str, object]) -> None:
    assert proof(replace(SERVICE, **change)) != proof(SERVICE)  # type: ignore[arg-type]


def test_certificate_and_key_are_proved_too() -> None:
    assert proofs([SERVICE]) == {"s1": proof(SERVICE)}
    found = proofs([SERVICE], TlsFiles("key", "certificate"))
    assert found == {"s1": proof(SERVICE), "/tls": hashlib.sha256(b"certificatekey").hexdigest()}


def test_a_key_is_nothing_to_print() -> None:
    assert "secret" not in repr(TlsFiles("secret", "certificate"))


def test_secrets_are_written_where_there_are_some() -> None:
    assert '"$dir/tls"' not in submitted()
    text = submitted(tls=TlsFiles("the key", "the certificate"))
    assert "write \"$dir/tls\"/key.pem 7 'the key' || return 1\n" in text
    assert "write \"$dir/tls\"/cert.pem 15 'the certificate' || return 1\n" in text


def test_the_same_request_is_asked_for_the_same() -> None:
    """What only another version writes, or another time, is adopted; another request is not."""
    assert asked(submitted()) == asked(submitted(script="another", about="another", token="another", after=3))
    for change in (
        {"request": AllocationRequest(nodes=2)}, {"services": []}, {"services": [replace(SERVICE, script="x")]},
        {"keeper": KeeperSettings(idle_limit=7)},
    ):  # fmt: skip
        assert asked(submitted(**change)) != asked(submitted())


def test_what_is_asked_for_is_known_by_later_versions() -> None:
    """Running jobs are adopted after an upgrade, not submitted a second time."""
    assert asked(submitted()) == "asked=d94207f1b0b9fdb7"


def test_keeper_and_comment_travel_as_data() -> None:
    text = submitted(script="#!/bin/sh\necho 'ä'\n", about="two\nlines", after=2)
    assert "keeper_length=20\n" in text
    assert "about='two lines'\n" in text
    assert text.endswith(f"submit {NAME} me 2\n")


@pytest.mark.parametrize(
    ("field", "change"),
    [("name", {"name": "x"}), ("token", {"token": "a b"}), ("service", {"services": [replace(SERVICE, name="A b")]})],
)
def test_names_are_names(field: str, change: dict[str, object]) -> None:
    with pytest.raises(InvalidSetting, match=f"^{field}"):
        submitted(**change)
