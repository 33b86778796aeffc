"""Why a scheduler does not take a request, in the words of the field that is to be mended."""

from __future__ import annotations

import re

# What sbatch says (Slurm 20.11 to 26.05, run), the field it is about, and what to do.
_REFUSALS = (
    (r"accounting/QOS policy|submit limit", "account, qos, nodes or time_limit", "you are at a limit of the account's; the task tries again, `sacctmgr show assoc user=$USER` shows the limits"),
    (r"invalid account|account/partition combination", "account", "ask the site which accounts you may use (`sacctmgr show assoc user=$USER`)"),
    (r"invalid partition", "partition", "`sinfo -s` lists the partitions"),
    (r"invalid feature", "constraint", "`sinfo -o '%n %f'` lists the nodes' features"),
    (r"node configuration is not available|more processors|memory specification", "nodes, cpus_per_task, memory or constraint", "no node of the partition fits; `sinfo -o '%P %D %c %m %f'` shows what there is"),
    (r"reservation", "reservation", "`scontrol show reservation` lists them"),
    (r"invalid qos", "qos", "`sacctmgr show assoc user=$USER format=qos` lists yours"),
    (r"time specification|time limit", "time_limit", "it must not exceed the partition's limit (`sinfo -o '%P %l'`)"),
    (r"gres|generic resource", "gres", "`sinfo -o '%n %G'` lists the nodes' resources"),
    (r"node count|node limit|invalid node name", "nodes", "it must not exceed the partition's limit"),
    (r"unrecognized option|invalid option|unrecognised|requires an argument|ambiguous", "sbatch_options", "`man sbatch` lists the options of the site's version"),
    (r"access|permission|not allowed|partition is down|inactive", "account or partition", "you may not use it; ask the site"),
)  # fmt: skip


def refusal(text: str, code: str) -> str:
    """Which field is wrong, and what to do.

    :param text: what sbatch said.
    :param code: its exit code.
    """
    said = " ".join(text.split())[:500] or f"nothing, with exit code {code}"
    if code == "127" or "not found" in text:
        return f"scheduler: sbatch was not found where the Slurm commands are run ({said}). Set ssh_conn_id, or scheduler to local."
    for pattern, field_name, remedy in _REFUSALS:
        if re.search(pattern, text, re.IGNORECASE):
            return f"{field_name}: Slurm refused the request: {said} What to do: {remedy}."
    return f"Slurm refused the request: {said}"
