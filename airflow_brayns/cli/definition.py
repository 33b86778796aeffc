"""The list of the commands `airflow brayns …`. It imports little, since Airflow imports it at every command."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, Arg, GroupCommand, lazy_load_command

_CLUSTER = Arg(("--cluster-conn-id",), help="connection of type brayns_cluster; default: all", default=None)
_WATCH = Arg(("-w", "--watch"), help="look again every so many seconds", type=float, metavar="SECONDS", default=None)
_ANY = Arg(("--any-installation",), help="also what another Airflow asked for", action="store_true")
_DAG = Arg(("dag_id",), help="the DAG")
_TASK = Arg(("task_id",), help="a task of it that allocates")
_CONF = Arg(("-c", "--conf"), help="the run's parameters as JSON", default="{}")
_FILE = Arg(("file",), help="YAML, JSON or Python")
_PARAMS = Arg(("--params",), help="further arguments of a Python file's functions, as JSON", default="{}")
_SERVICES = (
    Arg(("--plugins",), help="names with commas between them", default="braynsCircuitExplorer"),
    Arg(
        ("--cluster-conn-id",),
        help="connection of type brayns_cluster; where the default is not defined, this machine",
        default="brayns_default",
    ),
    _PARAMS,
)
_PREVIEW = (
    Arg(
        ("-o", "--output"),
        help="the sheet, *.jpg or *.png; default: the file's name with .preview.jpg, here",
        default=None,
    ),
    Arg(("-n", "--frames"), help="how many frames", type=int, default=8),
    Arg(("-w", "--width"), help="of a frame in pixels", type=int, default=400),
    *_SERVICES,
)
_ESTIMATE = (
    Arg(
        ("-n", "--nodes"),
        help="how many nodes to tell it for, several with commas",
        metavar="NODES",
        default="1,2,4,8",
    ),
    *_SERVICES,
    ARG_OUTPUT,
)
_CHECK = (
    Arg(("-n", "--frames"), help="how many frames of a Python file are rendered", type=int, default=4),
    Arg(("--without-rendering",), help="look at a Python file only; no service is started", action="store_true"),
    *_SERVICES,
)


def get_commands() -> list[GroupCommand]:
    """The commands for Airflow's command line."""
    home = "airflow_brayns.cli.commands"
    return [
        GroupCommand(
            name="brayns",
            help="Brayns services on clusters",
            subcommands=(
                ActionCommand(
                    name="services",
                    help="what is running, on which cluster, for which DAG run",
                    func=lazy_load_command(f"{home}.services"),
                    args=(_CLUSTER, _WATCH, ARG_OUTPUT),
                ),
                ActionCommand(
                    name="connect",
                    help="a port of this machine that leads to a service, until Ctrl-C",
                    func=lazy_load_command("airflow_brayns.cli.connect.connect"),
                    args=(
                        Arg(("name",), help="as `airflow brayns services` shows it"),
                        Arg(("-s", "--service"), help="which of its services; default: the first", default=None),
                        Arg(("-p", "--port"), help="of this machine; 0: any that is free", type=int, default=5000),
                        Arg(
                            ("--api-url",),
                            help="of an Airflow elsewhere that knows the service; needs a token in AIRFLOW_CLI_TOKEN, and ssh",
                            default=None,
                        ),
                        _CLUSTER,
                    ),
                ),
                ActionCommand(
                    name="release",
                    help="give an allocation back",
                    func=lazy_load_command(f"{home}.release"),
                    args=(Arg(("name",), help="as `airflow brayns services` shows it"), _CLUSTER, _ANY, ARG_OUTPUT),
                ),
                ActionCommand(
                    name="reap",
                    help="give back what no DAG run uses any more; only says what it would do, unless --yes",
                    func=lazy_load_command(f"{home}.reap"),
                    args=(_CLUSTER, Arg(("-y", "--yes"), help="do it", action="store_true"), ARG_OUTPUT),
                ),
                ActionCommand(
                    name="script",
                    help="print the keeper and the sbatch line that a task would submit; submits nothing",
                    func=lazy_load_command("airflow_brayns.cli.script.script"),
                    args=(_DAG, _TASK, _CONF),
                ),
                ActionCommand(
                    name="examples",
                    help="copy the example DAGs, with their movies and scenes, into a folder; without one, list them",
                    func=lazy_load_command("airflow_brayns.cli.examples.examples"),
                    args=(
                        Arg(("folder",), help="such as your DAG folder; made if need be", nargs="?", default=None),
                        Arg(("--overwrite",), help="replace files that are there and differ", action="store_true"),
                    ),
                ),
                GroupCommand(
                    name="movie",
                    help="movie specifications",
                    subcommands=(
                        ActionCommand(
                            name="check",
                            help="say what a specification describes, or at which line it is wrong, which starts nothing; of a "
                            "Python file, prove with two services that frames do not depend on their order",
                            func=lazy_load_command("airflow_brayns.cli.movie.check"),
                            args=(_FILE, *_CHECK, ARG_OUTPUT),
                        ),
                        ActionCommand(
                            name="preview",
                            help="a contact sheet of a few small, quick frames",
                            func=lazy_load_command("airflow_brayns.cli.movie.preview"),
                            args=(_FILE, *_PREVIEW),
                        ),
                        ActionCommand(
                            name="estimate",
                            help="seconds a frame, node-hours and hours of the whole movie, by three frames of full quality",
                            func=lazy_load_command("airflow_brayns.cli.estimate.estimate"),
                            args=(_FILE, *_ESTIMATE),
                        ),
                        ActionCommand(
                            name="schema",
                            help="print the JSON schema of a specification",
                            func=lazy_load_command("airflow_brayns.cli.movie.schema"),
                            args=(),
                        ),
                    ),
                ),
            ),
        )
    ]
