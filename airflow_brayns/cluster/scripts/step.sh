# What is too much for a login node is run on a node of a job.

step() { # step JOB SECONDS NODE SCRIPT: on a node of the job, its output here; the node's own shell reads it on stdin
    local id seconds node text
    id=$1
    seconds=$2
    node=$3
    text=$4
    # srun, too, takes the whole environment to the node.
    set -- env -i ${HOME:+"HOME=$HOME"} ${USER:+"USER=$USER"} ${LOGNAME:+"LOGNAME=$LOGNAME"} ${PATH:+"PATH=$PATH"} \
        ${TMPDIR:+"TMPDIR=$TMPDIR"} ${SLURM_CONF:+"SLURM_CONF=$SLURM_CONF"}
    [ "$scheduler" != slurm ] || set -- "$@" srun --overlap --jobid="$id" -N1 -n1 ${node:+-w "$node"}
    # A line of its own, whatever a wrapper of srun greets with.
    printf "echo\n%s\n" "$text" | at_most "$seconds" "$@" /bin/sh -s 2>"$errors" || printf '\nfailed %s\n' "$(tail -n 3 "$errors" | coded)"
}
