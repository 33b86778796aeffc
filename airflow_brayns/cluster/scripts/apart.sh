# Whoever runs these scripts may be an Airflow worker, whose environment holds its secrets: what is run for others gets none of it.

without_ours() { # without_ours SECONDS COMMAND...: in the place of this shell, without its environment; 0 for as long as it takes
    local seconds
    seconds=$1
    shift
    [ "$seconds" -eq 0 ] || ! command -v timeout >/dev/null 2>&1 || set -- timeout "$seconds" "$@"
    exec env -i ${HOME:+"HOME=$HOME"} ${USER:+"USER=$USER"} ${LOGNAME:+"LOGNAME=$LOGNAME"} ${PATH:+"PATH=$PATH"} \
        ${SHELL:+"SHELL=$SHELL"} ${LANG:+"LANG=$LANG"} ${TZ:+"TZ=$TZ"} ${TMPDIR:+"TMPDIR=$TMPDIR"} \
        ${LD_LIBRARY_PATH:+"LD_LIBRARY_PATH=$LD_LIBRARY_PATH"} ${BRAYNS_EMULATOR:+"BRAYNS_EMULATOR=$BRAYNS_EMULATOR"} \
        ${SLURM_CONF:+"SLURM_CONF=$SLURM_CONF"} "$@"
}
