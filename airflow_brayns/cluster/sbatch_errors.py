"""Refusals of sbatch, translated into the field that is to be mended and what to do."""

from __future__ import annotations

import re

from airflow_brayns.errors import SubmissionLimited, SubmissionRefused

_LIMIT = r"accounting/QOS policy|submit limit|SubmitJob[A-Za-z]*Limit"  # the only refusal that passes by itself
# Slurm's name of a limit that counts jobs (Slurm 22.05, run): one of a job's own size or time never passes, and Slurm adds the same sentence.
_OF_JOBS = r"SubmitJob[A-Za-z]*Limit"
# Each entry: a pattern of what sbatch says (Slurm 20.11 to 26.05, run), the field that it is about, and what to do.
_REFUSALS = (
    (_LIMIT, "account, qos, nodes or time_limit", "wait, the task tries again: you are at a limit of the account's (`sacctmgr show assoc user=$USER`)"),
    (r"invalid account|account/partition combination", "account", "ask the site which accounts you may use (`sacctmgr show assoc user=$USER`)"),
    (r"invalid partition|no partition specified|multiple partition job", "partition", "take one that `sinfo -s` lists"),
    (r"invalid feature", "constraint", "take a feature that `sinfo -o '%n %f'` lists"),
    (r"(node|partition) configuration (is )?not available|more processors|more tasks|(cpu|task) count spec|memory (spec|required)", "nodes, cpus_per_task, memory or constraint", "ask for less: no node of the partition fits (`sinfo -o '%P %D %c %m %f'`)"),
    (r"reservation", "reservation", "take one that `scontrol show reservation` lists"),
    (r"invalid qos", "qos", "take one that `sacctmgr show assoc user=$USER format=qos` lists"),
    (r"time specification|invalid (--)?time|time limit", "time_limit", "keep within the partition's limit (`sinfo -o '%P %l'`)"),
    (r"(^|[^a-z])gres([^a-z]|$)|generic resource", "gres", "take a resource that `sinfo -o '%n %G'` lists"),
    (r"node count|node limit|invalid node name|nodes not in this partition|job size spec", "nodes", "keep within the partition's limit (`sinfo -o '%P %D'`)"),
    (r"unrecognized option|invalid option|unrecognised|requires an argument|ambiguous", "sbatch_options", "take an option that the site's `man sbatch` lists"),
    (r"access(/permission)? denied|not permitted to|not allowed to|partition is down|partition in down state|inactive or drain", "account or partition", "ask the site: you may not use it"),
    (r"invalid [^.]{0,60} (specification|request|specified|value)|dependency problem|burst buffer", "sbatch_options", "see in the site's `man sbatch` what the option takes"),
)  # fmt: skip
# For `grep -iE`: what only another request mends. Whatever else sbatch says may pass by itself: a controller that changes over, a
# configuration that is being written.
REFUSALS = "|".join(pattern for pattern, _, _ in _REFUSALS)
# For `grep -iE` too: the lines that are Slurm's own, the surest first. What a site greets with, or its plugins remark, decides nothing
# where one of them tells why. Behind a site's wrapper sbatch may have another name (`sbatch.real`); what getopt says has no `error: `.
_SBATCH = r"sbatch[A-Za-z0-9._-]*: "
SLURMS_OWN = (r"submission failed: ", rf"{_SBATCH}(error: |fatal: |option |(unrecognized|invalid) option)", _SBATCH)
NOT_FOUND = "put Slurm's programs on the PATH that ssh gives (~/.bashrc), or set ssh_conn_id, or scheduler to local."
UNSPECIFIED = "unspecified error"  # a site's plugin refused the job, and says why in a line of its own


def refusal(text: str, code: str, queued: int = 0) -> SubmissionRefused:
    """The error for a request that sbatch refused: which field is wrong, and what to do.

    :param text: what sbatch said.
    :param code: the exit code of sbatch.
    :param queued: how many jobs of this user wait or run: while there are any, a limit of jobs may pass with their ends.
    """
    said = " ".join(text.split())[:500] or f"nothing, with exit code {code}"
    ran = any(
        re.search(pattern, text, re.IGNORECASE) for pattern in SLURMS_OWN[:2]
    )  # and a wrapper's own end may be a 127
    if not ran and (code == "127" or re.search(r"sbatch: (command )?not found", text)):
        where = f"sbatch was not found where the Slurm commands are run ({said})."
        return SubmissionRefused(where, remedy=NOT_FOUND, field="scheduler")
    own = _slurms_own(text)
    for pattern, field, remedy in _REFUSALS:
        if re.search(pattern, own, re.IGNORECASE):
            limited = pattern is _LIMIT
            kind = SubmissionLimited if limited and queued and re.search(_OF_JOBS, text) else SubmissionRefused
            return kind(f"Slurm refused the request: {said}", remedy=f"{remedy}.", field=field, retry=limited)
    return SubmissionRefused(
        f"Slurm refused the request: {said}",
        remedy="Compare the request with the site's rules: `airflow brayns script DAG TASK` prints it.",
    )


def _slurms_own(text: str) -> str:
    """Why the request was refused, of all that was said; see `why_refused` in submit.sh."""
    for pattern in SLURMS_OWN:
        lines = [line for line in text.splitlines() if re.search(pattern, line, re.IGNORECASE)]
        if found := [line for line in lines if UNSPECIFIED not in line.lower()]:
            return "\n".join(found)
    return text
