"""`airflow brayns …`: which commands there are. Light: Airflow imports it at every command."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

_CLUSTER = Arg(("--cluster-conn-id",), help="connection of type brayns_cluster; default: all", default=None)
_DAG = Arg(("dag_id",), help="the DAG")
_TASK = Arg(("task_id",), help="a task of it that allocates")
_CONF = Arg(("-c", "--conf"), help="the run's parameters as JSON", default="{}")


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
                    args=(Arg(("name",), help="as `airflow brayns services` shows it"), _CLUSTER),
                ),
                ActionCommand(
                    name="script",
                    help="print the keeper and the sbatch line that a task would submit; submits nothing",
                    func=lazy_load_command(f"{home}.script"),
                    args=(_DAG, _TASK, _CONF),
                ),
            ),
        )
    ]
