# The scheduler is Slurm, or this machine with its processes.
# Each job is a line of squeue's: id|state|reason|nodes|comment|name|submit time|start|time left

at_most() { # at_most SECONDS COMMAND...: Slurm's own time-outs add up to half a minute
    local seconds
    seconds=$1
    shift
    if command -v timeout >/dev/null 2>&1; then timeout "$seconds" "$@"; else "$@"; fi
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
    # Without it, whatever is said beside lines with bars is no answer; nor is one that was cut off (124: in time; 128: by a signal).
    {
        [ "$code" -ne 124 ] && [ "$code" -lt 128 ] && printf '%s\n' "$listing" | grep -q '^JOBID|STATE|REASON|'
    } || {
        [ "$code" -eq 0 ] && ! printf '%s\n' "$listing" | cat "$errors" - | grep -qE '^[^|]+$'
    } || {
        listing=$(printf '%s\n' "$listing" | grep -v '|') # jobs say nothing of it, and something else with each look
        [ -s "$errors" ] && [ -z "$listing" ] || printf '%.300s\n' "${listing:-squeue gave no whole listing, with exit code $code}" >>"$errors"
        return 1
    }
    printf '%s\n' "$listing" | grep '^[0-9].*|ab-[0-9a-f]*-[0-9]*|'
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
        # The clock is read once: between two readings a minute may end.
        [ -z "$left" ] || left=$((left - $(now))) && left=${left:+$((left / 60)):$(printf '%02d' $((left % 60)))}
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
