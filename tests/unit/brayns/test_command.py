from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_brayns.brayns.command import ServiceSpec, check_port
from airflow_brayns.errors import InvalidSetting


@pytest.fixture
def recorder(tmp_path: Path) -> str:
    """A program that prints its arguments, one a line, or a version."""
    program = tmp_path / "braynsService"
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo "Brayns version $FAKE (x)"; exit; }\nprintf "%s\\n" "$@"\n'
    )
    program.chmod(0o755)
    return str(program)


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": "/usr/bin:/bin", "AB_PORT": "5000", **environment}
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=variables, check=False)


EXPECTED = {
    "1.1.0": ["--http-server", "0.0.0.0:5000", "--plugin", "a", "--plugin", "b"],
    "2.0.0": ["--uri", "0.0.0.0:5000", "--max-clients", "3", "--plugin", "a", "--plugin", "b"],
    "3.10.1": ["--uri", "0.0.0.0:5000", "--max-clients", "3", "--plugin", "a", "--plugin", "b", "--log-level", "info"],
}


@pytest.mark.parametrize("version", EXPECTED)
@pytest.mark.parametrize("given", [True, False])
def test_each_generation_gets_its_command_line(recorder: str, version: str, given: bool) -> None:
    generation = int(version[0]) if given else None
    script = ServiceSpec(plugins=["a", "b"], executable=recorder, max_clients=3, generation=generation).script()
    assert run(script, FAKE=version).stdout.split() == EXPECTED[version]


def test_an_unknown_version_says_so(recorder: str) -> None:
    done = run(ServiceSpec(executable=recorder).script(), FAKE="4.0.0")
    assert done.returncode == 96
    assert "4.0.0" in done.stdout


@pytest.mark.parametrize("told", ["", "Brayns version 3.10.1 (x)"])
def test_killed_while_it_told_its_version_it_may_be_tried_again(tmp_path: Path, told: str) -> None:
    """That is the node's trouble, not the executable's; what it has told before counts."""
    program = tmp_path / "braynsService"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] || exit 0\necho "{told}"\nkill -KILL $$\n')
    program.chmod(0o755)
    assert run(ServiceSpec(executable=str(program)).script()).returncode == (0 if told else 137)


def test_a_missing_executable_says_which() -> None:
    done = run(ServiceSpec(executable="no-such-brayns").script())
    assert done.returncode == 127
    assert "executable no-such-brayns not found" in done.stdout


def test_setup_runs_before_it_with_source_and_functions(recorder: str, tmp_path: Path) -> None:
    (tmp_path / "site.sh").write_text("module() { export LOADED=$2; }\n")
    setup = f"source {tmp_path}/site.sh\nmodule load brayns\n[ $LOADED = brayns ] && echo loaded"
    assert run(ServiceSpec(executable=recorder, setup=setup, generation=3).script()).stdout.startswith("loaded\n")


def test_a_wrong_module_stops_before_the_service(recorder: str) -> None:
    done = run(ServiceSpec(executable=recorder, setup="false", generation=3).script())
    assert (done.returncode, "setup failed" in done.stdout) == (97, True)


@pytest.mark.parametrize("generation", [None, 3])
@pytest.mark.parametrize(
    "setup", ["exit 0", "cat <<END\nhello", "echo 'a", "if true; then", "exec no-such-shell", "set -u; echo $NO_SUCH", "(exit 3) || exit 0"]
)  # fmt: skip
def test_a_setup_that_ends_the_shell_is_no_setup_that_is_done(
    recorder: str, setup: str, generation: int | None
) -> None:
    """With a setup such as `exit 0` the service never came, and the shell's exit code said that all was well."""
    spec = ServiceSpec(executable=recorder, setup=setup, generation=generation)
    for script in (spec.script(), spec.trial()):
        done = run(script)
        assert (done.returncode, "the shell ended within setup" in done.stdout) == (93, True)
        assert not done.stdout.startswith("--uri")


def test_behind_setup_signals_are_as_they_were(recorder: str) -> None:
    script = ServiceSpec(executable=recorder, setup="true", generation=3).script()
    before = run("trap -p").stdout  # such as SIGHUP, under nohup
    assert run(script.replace("exec ", "trap -p; exec ", 1)).stdout.startswith(f"{before}--uri")


@pytest.mark.parametrize("generation", [None, 3])
def test_a_backslash_at_the_end_of_setup_takes_no_line_of_ours(recorder: str, generation: int | None) -> None:
    spec = ServiceSpec(executable=recorder, setup="echo hi \\", generation=generation)
    assert run(spec.script(), FAKE="3.10.1").stdout.splitlines()[:2] == ["hi", "--uri"]
    done = run(spec.trial(), FAKE="3.10.1")
    assert (done.returncode, done.stdout) == (0, "hi\nversion 3.10.1\n")


def test_what_setup_does_at_the_end_of_its_own_shell_does_not_count(recorder: str) -> None:
    setup = "found=$(echo a; exit 3) || true; (exit 1) && false || true"
    assert run(ServiceSpec(executable=recorder, setup=setup, generation=3).script()).returncode == 0


@pytest.mark.parametrize(
    ("text", "code"), [("#!/no/such/interpreter\n", {126, 127}), ("#!/bin/sh\necho 'libx.so: cannot open'; exit 127\n", {127})]
)  # fmt: skip
def test_a_program_that_cannot_run_says_why_and_not_that_it_has_no_version(
    tmp_path: Path, text: str, code: set[int]
) -> None:
    """A library that is missing was told of as a `generation` that should be set."""
    program = tmp_path / "braynsService"
    program.write_text(text)
    program.chmod(0o755)
    done = run(ServiceSpec(executable=str(program)).trial())
    assert done.returncode in code
    assert "no generation" not in done.stdout
    assert "libx.so: cannot open" in done.stdout or "cannot execute" in done.stdout


def test_a_container_goes_before_the_executable(recorder: str) -> None:
    done = run(ServiceSpec(executable=recorder, container="env X=1", generation=1).script())
    assert "--http-server" in done.stdout


@settings(max_examples=12, deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=80))
def test_environment_values_are_data(value: str) -> None:
    done = subprocess.run(
        ["bash", "-c", ServiceSpec(executable="true", environment={"X": value}).script().split("command -v")[0] + 'printf %s "$X"'],
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.decode() == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("plugins", [""]), ("plugins", ["a b"]), ("plugins", ["--evil"]), ("executable", ""), ("generation", 4), ("port", "x"),
        ("port", "70000"), ("port", "9-3"), ("max_clients", 0), ("log_level", "loud"), ("log_level", "warn"),
        ("environment", {"a b": "c"}),
    ],
)  # fmt: skip
def test_bad_values_name_their_field(field: str, value: object) -> None:
    with pytest.raises(InvalidSetting, match=field):
        ServiceSpec(**{field: value})  # type: ignore[arg-type]


def test_ports() -> None:
    assert [check_port(port) for port in (0, "5000", "5000-5010")] == ["0", "5000", "5000-5010"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("environment", {"A": "x" * (1 << 20)}), ("environment", {"A": "\ud800"}), ("environment", {"AB_PORT": "1"}), ("environment", {"BASHOPTS": "x"}),
        ("environment", {"UID": "0"}), ("environment", {"RANDOM": "4"}), ("environment", {"A" * 300: "x"}), ("executable", "x" * 5000),
        ("executable", "\ud800"), ("plugins", ["x" * (1 << 20)]), ("setup", "\ud800"), ("setup", "x" * (1 << 21)), pytest.param("max_clients", 10**5000, id="clients-huge"),
        pytest.param("port", 10**5000, id="port-huge"), ("port", "٣"),
    ],
)  # fmt: skip
def test_what_cannot_reach_the_service_is_refused_by_name(field: str, value: object) -> None:
    """A variable of 128 KiB lets no program start, one of bash's own keeps its value, and half a character broke the submission."""
    with pytest.raises(InvalidSetting, match=field):
        ServiceSpec(**{field: value})  # type: ignore[arg-type]
