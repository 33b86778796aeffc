"""`airflow brayns …`: which commands there are. Light: Airflow imports it at every command."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

_CLUSTER = Arg(("--cluster-conn-id",), help="connection of type brayns_cluster; default: all", default=None)
_ANY = Arg(("--any-installation",), help="also what another Airflow asked for", action="store_true")
_DAG = Arg(("dag_id",), help="the DAG")
_TASK = Arg(("task_id",), help="a task of it that allocates")
_CONF = Arg(("-c", "--conf"), help="the run's parameters as JSON", default="{}")
_FILE = Arg(("file",), help="YAML or JSON")
_PREVIEW = (
    Arg(
        ("-o", "--output"),
        help="the sheet, *.jpg or *.png; default: the file's name with .preview.jpg, here",
        default=None,
    ),
    Arg(("-n", "--frames"), help="how many frames", type=int, default=8),
    Arg(("-w", "--width"), help="of a frame in pixels", type=int, default=400),
    Arg(("--plugins",), help="names with commas between them", default="braynsCircuitExplorer"),
    Arg(
        ("--cluster-conn-id",),
        help="connection of type brayns_cluster; where the default is not defined, this machine",
        default="brayns_default",
    ),
)


def get_commands() -> list[GroupCommand]:
    """For Airflow's command line."""
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
                    args=(_CLUSTER,),
                ),
                ActionCommand(
                    name="release",
                    help="give an allocation back",
                    func=lazy_load_command(f"{home}.release"),
                    args=(Arg(("name",), help="as `airflow brayns services` shows it"), _CLUSTER, _ANY),
                ),
                ActionCommand(
                    name="reap",
                    help="give back what no DAG run uses any more; only says what it would do, unless --yes",
                    func=lazy_load_command(f"{home}.reap"),
                    args=(_CLUSTER, Arg(("-y", "--yes"), help="do it", action="store_true")),
                ),
                ActionCommand(
                    name="script",
                    help="print the keeper and the sbatch line that a task would submit; submits nothing",
                    func=lazy_load_command(f"{home}.script"),
                    args=(_DAG, _TASK, _CONF),
                ),
                GroupCommand(
                    name="movie",
                    help="movie specifications",
                    subcommands=(
                        ActionCommand(
                            name="check",
                            help="say what a specification describes, or at which line it is wrong; starts nothing",
                            func=lazy_load_command("airflow_brayns.cli.movie.check"),
                            args=(_FILE,),
                        ),
                        ActionCommand(
                            name="preview",
                            help="a contact sheet of a few small, quick frames",
                            func=lazy_load_command("airflow_brayns.cli.movie.preview"),
                            args=(_FILE, *_PREVIEW),
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
