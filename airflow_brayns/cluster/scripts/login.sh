# Every command on the login machine begins with this text. `/bin/sh -s` reads it on stdin, once per command.
# Set above: scheduler state_dir shared place. Answers are lines "key value…"; texts of any kind travel in base64.
# Shared: lock errors scratch, for all that run below.
shared=${shared-}
place=${place-}
tilde='~'
export HOME="${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}" # a service of systemd's has none
# shellcheck disable=SC2016 # as somebody wrote it
for one in '$USER' '${USER}'; do
    case $state_dir in *"$one"*) state_dir=${state_dir%%"$one"*}$(id -un)${state_dir#*"$one"} ;; esac
done
case $state_dir in
"$tilde") state_dir=$HOME ;;
"$tilde"/*) state_dir=$HOME/${state_dir#??} ;;
/*) ;;
*) state_dir=$HOME/$state_dir ;;
esac
# The user's own defaults would change what is asked and what is answered; those of a job around us would reach the next one.
for one in $(env | sed -n 's/^\([A-Z][A-Z_0-9]*\)=.*/\1/p'); do
    case $one in
    SLURM_CONF) ;;
    SLURM_* | SBATCH_* | SALLOC_* | SRUN_* | SQUEUE_* | SCANCEL_* | SCONTROL_* | SINFO_* | SACCT_*) unset "$one" ;;
    esac
done
export LC_ALL=C

lock=
errors=/dev/null
scratch=
for one in "${TMPDIR:-/tmp}" "$state_dir" /dev/shm /var/tmp; do # a full /tmp must not keep nodes
    scratch=$(mktemp -d "$one/airflow-brayns.XXXXXX" 2>/dev/null) || continue
    if put "$scratch/errors" ""; then
        errors=$scratch/errors
        break
    fi
    rm -rf "$scratch"
    scratch=
done
trap '[ -z "$scratch" ] || rm -rf "$scratch"; [ -z "$lock" ] || rmdir "$lock" 2>/dev/null' EXIT
trap 'exit 143' TERM HUP INT PIPE # PIPE: whoever asked has gone
