# The scheduler is Slurm, or this machine with its processes.
# Each job is a line of squeue's: id|state|reason|nodes|comment|name|submit time|start|time left
lost_answers='timed out|unable to contact|connection|communication|zero bytes|receive|temporarily'

at_most() { # at_most SECONDS COMMAND...: Slurm's own time-outs add up to half a minute
    local seconds
    seconds=$1
    shift
    if command -v timeout >/dev/null 2>&1; then timeout "$seconds" "$@"; else "$@"; fi
}

# Whoever runs these scripts may be an Airflow worker, whose environment holds its secrets.
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

process_started() { # it prints the kernel's start time of a process; nothing for a zombie or none
    sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'
}

# Sites wrap squeue: what they show before, behind and around it is none of its lines, and their exit code is not always its own.
# Its heading says that it has answered. The line feed keeps its first line apart from a banner without one.
slurm_jobs() {
    local listing code
    # Not into a file: of one that could not be written whole, what is missing would count as ended.
    listing=$(at_most 30 squeue -t all -u "$(id -un)" -o '
%i|%T|%r|%N|%k|%j|%V|%S|%L' 2>"$errors")
    code=$?
    listing=$(printf '%s\n' "$listing" | plain)
    if ! printf '%s\n' "$listing" | grep -q '^JOBID|STATE|REASON|'; then
        [ "$code" -eq 0 ] || return 1
        printf '%s\n' "$listing" | cat "$errors" - | grep -qE '(error|fatal): ' && return 1
    fi
    printf '%s\n' "$listing" | grep '^[0-9][^|]*|.*|ab-[0-9a-f]*-[0-9]*|'
    return 0
}

jobs_of() { # jobs_of DIR...: every job of ours (Slurm answers for all at once)
    local one job state name left
    if [ "$scheduler" = slurm ]; then
        slurm_jobs
        return
    fi
    for one in "$@"; do
        job=$(first "$one/job")
        [ -n "$job" ] || continue
        state=COMPLETED
        [ "$(process_started "${job%% *}")" = "${job#* }" ] && state=RUNNING
        name=$(basename "$(dirname "$one")")-$(basename "$one")
        left=$(first "$one/claim/ends")
        [ -z "$left" ] || left=$(((left - $(now)) / 60)):$(printf '%02d' $(((left - $(now)) % 60)))
        printf '%s|%s|None|%s||%s|%s||%s\n' "${job%% *}" "$state" "$(first "$one/claim/nodes" | tr ' ' ',')" "$name" "${job#* }" "$left"
    done
}

look_at_jobs() { # look_at_jobs DIR...: the scheduler's word, or its error; an error is not an empty answer
    local answer
    if answer=$(jobs_of "$@"); then
        [ -z "$answer" ] || printf '%s\n' "$answer" | sed 's/^/queue /'
        printf 'answered\n'
    else
        printf 'silent %s\n' "$(coded <"$errors")"
    fi
}

queued() { # how many jobs of this user, ours or not, wait or run
    at_most 20 squeue -h -u "$(id -un)" -o '
job %i' 2>/dev/null | plain | grep -c '^job [0-9]'
}

find_job() { # find_job DIR: the line of the job of one allocation; fails when the scheduler does not answer
    local name answer
    name=$(basename "$(dirname "$1")")-$(basename "$1")
    answer=$(jobs_of "$1") || return 1
    # The latest: names are given out again where a folder was deleted. A comment may hold a bar.
    printf '%s\n' "$answer" | awk -F'|' -v name="$name" 'NF > 8 && $(NF - 3) == name && $(NF - 2) >= latest { latest = $(NF - 2); line = $0 } END { print line }'
}

end_job() { # end_job DIR soft|hard: ask the keeper to look, or end the job; by name too, since ids are given out again
    local id name
    # A job without a keeper has nobody to ask, and scancel tries for long to signal one that is pending.
    [ "$2" = hard ] || [ -d "$1/claim" ] || return 0
    id=$(first "$1/job")
    if [ "$scheduler" = slurm ]; then
        name=$(basename "$(dirname "$1")")-$(basename "$1")
        # shellcheck disable=SC2086 # no id yet is no word
        if [ "$2" = soft ]; then
            at_most 5 scancel --batch --signal=USR1 --name="$name" ${id%% *} >/dev/null
        else
            at_most 20 scancel --name="$name" ${id%% *} >/dev/null
            return
        fi
    elif [ -n "$id" ] && [ "$(process_started "${id%% *}")" = "${id#* }" ]; then
        if [ "$2" = soft ]; then kill -USR1 "${id%% *}" 2>/dev/null; else kill -TERM "${id%% *}" 2>/dev/null; fi
    fi
    return 0
}

give_up() { # give_up DIR: the keeper is asked where there is one; a job that has not started, or cannot be told, is ended at once
    local how
    if put "$1/release" "$(now)" && [ -d "$1/claim" ]; then how=soft; else how=hard; fi
    [ -e "$1/ended" ] || end_job "$1" "$how"
}

is_over() { # is_over STATE
    case $1 in
    PENDING | CONFIGURING | RUNNING | COMPLETING | STAGE_OUT | SUSPENDED | STOPPED | SIGNALING | RESIZING | REQUEUE*) return 1 ;;
    *) return 0 ;;
    esac
}

is_over_by_now() { # is_over_by_now ID: squeue's listing may be an old one, which sites keep for a minute; scontrol asks slurmctld itself
    local told
    [ "$scheduler" = slurm ] || return 1
    told=$(at_most 10 scontrol -o show job "$1" 2>&1 | plain)
    case $told in
    *'Invalid job id'*) return 0 ;;
    *JobState=*)
        told=${told#*JobState=}
        is_over "${told%%[ +]*}"
        ;;
    *) return 1 ;;
    esac
}

holds_nodes() { # holds_nodes STATE: it has nodes, or will have; what is completing is as good as gone
    case $1 in
    PENDING | CONFIGURING | RUNNING | SUSPENDED | REQUEUE*) return 0 ;;
    *) return 1 ;;
    esac
}

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
