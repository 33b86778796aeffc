from __future__ import annotations

import json
import ssl
from datetime import timedelta
from pathlib import Path

import pendulum
import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.provider import get_provider_info
from airflow_brayns.services.settings import ClusterSettings, embedded_default, is_name, literal
from tests.released import COMMITS, recorded


def test_an_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(InvalidSetting, match=r"(?s)patrition: correct its name: partition\?.*Known: .*partition"):
        ClusterSettings.read({"patrition": "prod"})


def test_values_as_text_are_understood() -> None:
    """A form, or a connection's URI, gives text for everything."""
    extras = {
        "nodes": "",
        "exclusive": "true",
        "cpus_per_task": "72",
        "environment": '{"A": "b"}',
        "poll_interval": "2",
        "generation": "3",
        "port": 5000,
        "sbatch_options": '["--licenses=x"]',
        "setup": ["a", "b"],
    }
    extras.pop("nodes")
    settings = ClusterSettings.read(extras)
    assert (settings.exclusive, settings.cpus_per_task, settings.environment) == (True, 72, {"A": "b"})
    assert (settings.poll_interval, settings.generation, settings.port, settings.setup) == (2, 3, "5000", "a\nb")
    assert settings.request(1).words() == ["--licenses=x"]


def test_a_task_overrides_the_connection() -> None:
    settings = ClusterSettings.read(
        {"account": "a", "time_limit": "1:00:00"},
        {"account": "b", "partition": "", "time_limit": pendulum.duration(hours=3)},
    )
    assert (settings.account, settings.partition, settings.request(1).seconds) == ("b", None, 10800)


@pytest.mark.parametrize(("minutes", "seconds"), [(90, 5400), (90.0, 5400), ("90", 5400), ("1:30:00", 5400)])
def test_a_bare_number_is_slurms_minutes(minutes: float | str, seconds: int) -> None:
    """`90.0` of a JSON file was 90 seconds, and 2.7 two of them."""
    assert ClusterSettings.read({"time_limit": minutes}).request(1).seconds == seconds


@pytest.mark.parametrize(
    ("extras", "field"),
    [
        ({"time_limit": 2.7}, "time_limit"), ({"time_limit": float("inf")}, "time_limit"), ({"cpus_per_task": 2.7}, "cpus_per_task"),
        ({"scheduler": "pbs"}, "scheduler"), ({"time_limit": "-1"}, "time_limit"), ({"poll_interval": 0}, "poll_interval"),
        ({"port": "http"}, "port"), ({"route": "ssh"}, "route"), ({"route": "teleport"}, "route"), ({"memory": "much"}, "memory"),
        ({"log_level": "error"}, "log_level"), ({"sbatch_options": ["--array=1-9"]}, "sbatch_options"),
        ({"sbatch_options": ["-J", "x"]}, "sbatch_options"), ({"idle_limit": -5}, "idle_limit"), ({"generation": "7"}, "generation"),
        ({"environment": "x"}, "environment"), ({"min_ready": 0}, "min_ready"), ({"node_suffix": "$(id)"}, "node_suffix"),
        ({"route": "node"}, "route"), ({"tls": "on"}, "tls"), ({"tls": "given"}, "tls"), ({"tls_ca": "/x"}, "tls"),
        ({"tls": "allocation", "generation": 1}, "tls"), ({"tls": "allocation", "tls_certificate_file": "/c"}, "tls"),
        ({"tls": "given", "tls_certificate_file": "/c", "tls_private_key_file": "/k", "tls_ca": "/nowhere"}, "tls_ca"),
    ],
)  # fmt: skip
def test_bad_values_name_their_field(extras: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{field}"):
        ClusterSettings.read(extras)


@pytest.mark.parametrize(
    ("extras", "who"),
    [
        ({}, "everybody on the cluster"), ({"scheduler": "local"}, "everybody on this machine"),
        ({"route": "node", "ssh_conn_id": "x"}, "everybody whose job runs on the same node"),
        ({"route": "node", "ssh_conn_id": "x", "exclusive": True}, "nobody else on the cluster"),
    ],
)  # fmt: skip
def test_the_log_says_who_can_reach_a_service_and_where_it_listens(extras: dict[str, object], who: str) -> None:
    settings = ClusterSettings.read(extras)
    assert who in settings.who_can_reach()
    assert settings.service().host == ("127.0.0.1" if extras else "0.0.0.0")


def test_durations_are_seconds() -> None:
    assert ClusterSettings.read({}, {"idle_limit": timedelta(hours=1)}).keeper().idle_limit == 3600


def test_provider_info_is_plain_json() -> None:
    info = get_provider_info()
    assert json.loads(json.dumps(info)) == info
    assert info["package-name"] == "airflow-brayns"


def test_provider_info_fits_airflows_schema() -> None:
    from pathlib import Path

    import airflow
    import jsonschema

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


@pytest.mark.parametrize(
    ("extras", "field"),
    [
        ({"idle_limit": "inf"}, "idle_limit"), ({"poll_interval": float("inf")}, "poll_interval"), ({"start_timeout": 1e300}, "start_timeout"),
        ({"queue_timeout": float("nan")}, "queue_timeout"), ({"generation": "²"}, "generation"), ({"account": "\ud800"}, "account"),
        ({"environment": {"A": "\ud800"}}, "environment"), ({"setup": [{"a": 1}]}, "setup"), ({"max_clients": "9" * 4000}, "max_clients"),
    ],
)  # fmt: skip
def test_numbers_without_end_and_half_characters_name_their_field(extras: dict[str, object], field: str) -> None:
    """Infinite seconds were an OverflowError, `²` a ValueError, and a keeper's shell cannot compare a number of 300 digits."""
    with pytest.raises(InvalidSetting, match=f"^{field}"):
        ClusterSettings.read(extras)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" + "-" * 100_000 + "1]", "[" + "1+" * 50_000 + "1j]", "{" + "a." * 50_000 + "b}"]
)
def test_a_text_that_is_nested_without_end_is_a_text(text: str) -> None:
    """It came as RecursionError or MemoryError out of a template's value."""
    assert literal(text) == text


def test_a_set_of_dicts_is_a_text() -> None:
    """As Jinja renders `{{{x}}}` around a dict; it came as a TypeError."""
    assert literal("{{'a': 1}}") == "{{'a': 1}}"


@pytest.mark.parametrize("version", COMMITS)
def test_a_connection_that_a_former_version_saved_says_what_it_said(version: str) -> None:
    """Fields that came later are not in it."""
    for extra, said in recorded(version)["connections"]:
        read = ClusterSettings.read(extra).model_dump(mode="json")
        assert {name: read[name] for name in said} == said
        new = set(read) - set(said)
        assert {name: read[name] for name in new} == {name: ClusterSettings.model_fields[name].default for name in new}


@pytest.mark.parametrize("version", COMMITS)
def test_a_form_that_a_former_version_saved_empty_is_read(version: str) -> None:
    """Every field with its default, or with nothing: as text, as null."""
    form = recorded(version)["form"]
    assert set(form) <= set(ClusterSettings.model_fields)
    assert ClusterSettings.read(form) == ClusterSettings.read({name: value or "" for name, value in form.items()})
    assert ClusterSettings.read(form) == ClusterSettings()


@pytest.mark.parametrize("field", ["idle_limit", "start_timeout", "time_limit", "cpus_per_task", "executable"])
def test_whatever_is_made_of_it_later_is_checked_at_once(field: str) -> None:
    """Before a node is asked for."""
    values = {"idle_limit": 0, "start_timeout": 0, "time_limit": "tomorrow", "cpus_per_task": 0, "executable": "a\nb"}
    with pytest.raises(InvalidSetting, match=f"^{field}"):
        ClusterSettings.read({field: values[field]})


@pytest.mark.parametrize("own", [{"setup": "module load brayns"}, {"container": "brayns.sif"}])
def test_on_this_machine_the_program_is_the_workers_unless_the_node_brings_its_own(own: dict[str, str]) -> None:
    here = ClusterSettings.read({"scheduler": "local", "executable": "sh"})
    assert here.service().executable.startswith("/")
    assert ClusterSettings.read({"scheduler": "local", "executable": "sh", **own}).service().executable == "sh"
    assert ClusterSettings.read({"scheduler": "slurm", "executable": "sh"}).service().executable == "sh"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ab-0123456789ab", True),
        ("ab-0123456789ab000", True),
        ("ab-0123456789a", False),
        ("ab-0123456789AB", False),
        ("x", False),
        ("ab-" + "0" * 41, False),
    ],
)
def test_which_texts_are_names_of_allocations(text: str, named: bool) -> None:
    assert is_name(text) is named


@pytest.mark.parametrize("field", sorted(set(ClusterSettings.model_fields) - {"exclusive"}))
@pytest.mark.parametrize("value", [True, False])
def test_only_a_switch_takes_true_and_false(field: str, value: bool) -> None:
    """`cpus_per_task: true` was 1 CPU, `time_limit: true` a second."""
    with pytest.raises(InvalidSetting) as raised:
        ClusterSettings.read({field: value})
    assert raised.value.field == field


def test_without_an_authority_of_its_own_a_service_is_known_by_those_that_the_system_trusts() -> None:
    """As where a site's certificates are signed by one that everybody knows."""
    given = {"tls": "given", "tls_certificate_file": "/c.pem", "tls_private_key_file": "/k.pem"}
    context = ClusterSettings.read({"scheduler": "slurm", **given}).client_context("", "n1.site.org", "")
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("beside", "on_path", "taken"),
    [
        ((), ("braynsService", "brayns-emulator"), "/path/braynsService"),
        (("brayns-emulator",), ("brayns-emulator",), "BESIDE/brayns-emulator"),
        (("brayns-emulator",), (), "BESIDE/brayns-emulator"),
        ((), ("brayns-emulator",), "/path/brayns-emulator"),
        ((), (), "brayns-emulator"),
    ],
)
def test_without_a_connection_the_program_is_the_services_or_else_this_packages_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: tuple[str, ...], on_path: tuple[str, ...], taken: str
) -> None:
    """Airflow's PATH need not have the environment that this package is installed in: its emulator is beside Python."""
    for name in beside:
        (tmp_path / name).touch()
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr("shutil.which", lambda name: f"/path/{name}" if name in on_path else None)
    extras, told = embedded_default()
    assert extras == {"scheduler": "local", "executable": taken.replace("BESIDE", str(tmp_path))}
    assert extras["executable"] in told


@pytest.mark.parametrize(
    "setup", ["export A=1\r\nmodule list\r\n", ["export A=1\r", "module list\r"], "export A=1\r\r\nmodule list\r"]
)  # fmt: skip
def test_lines_of_windows_are_lines(setup: object) -> None:
    """bash took the carriage return for a part of the value, and the connection's test said yes."""
    assert ClusterSettings.read({"setup": setup}).setup.split("\n")[:2] == ["export A=1", "module list"]
