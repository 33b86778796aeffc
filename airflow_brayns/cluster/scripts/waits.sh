# A look for all who wait. A wait is "NAME N WANT KNOWN SERVICE OFFSET...": so many listening services make news, so much news is known, and
# so many bytes of each service's log; one without a service knows nothing yet.
# Shared: deadline counted due.

look_for() { # look_for SECONDS PATIENCE TICK WAIT...: those that there is no time for are left out, and the next look begins with them
    local seconds one told logs
    seconds=$1
    [ "$2" = 0 ] || await_news "$@"
    shift 3
    limit "$seconds"
    told=0
    for one in "$@"; do
        # shellcheck disable=SC2086 # words, made by us
        tell $one
        told=$((told + 1))
        ! is_late || break
    done
    logs=$(logs_of "$told" "$@")
    [ -z "$logs" ] || logs_since "$logs"
    look_at_jobs_of "$told" "$@"
}

look_at_jobs_of() { # look_at_jobs_of NUMBER WAIT...: of the first so many
    local number one rest
    number=$1
    shift
    [ "$scheduler" != slurm ] || set -- # Slurm answers for all at once
    for one in "$@"; do
        shift
        [ "$number" -gt 0 ] || continue
        number=$((number - 1))
        rest=${one#* }
        set -- "$@" "$state_dir/${one%% *}/${rest%% *}"
    done
    look_at_jobs "$@"
}

limit() { # limit SECONDS: is_late from then on
    deadline=$(($(now) + $1))
    counted=0
    due=8
}

is_late() { # reading the clock takes a process: it is read at the 8th call, the 16th, the 32nd ..., and then at each 512th
    counted=$((counted + 1))
    [ "$counted" = "$due" ] || return 1
    if [ "$due" -lt 512 ]; then due=$((due * 2)); else due=$((due + 512)); fi
    [ "$(now)" -ge "$deadline" ]
}

await_news() { # await_news SECONDS PATIENCE TICK WAIT...: returns after PATIENCE, or when something has happened. Looking whether takes SECONDS at most
    local seconds tick end one
    seconds=$1
    tick=$3
    end=$(($(now) + $2))
    shift 3
    while [ "$(now)" -lt "$end" ]; do
        limit "$seconds"
        for one in "$@"; do
            # shellcheck disable=SC2086 # words, made by us
            is_as_known $one || return 0
            ! is_late || return 0
        done
        sleep "$tick" 2>/dev/null || sleep 1
    done
}

is_as_known() { # is_as_known NAME N WANT KNOWN: as many things as KNOWN have happened that a waiter wants to hear of at once
    local dir one happened up
    folder_of "$1" "$2"
    dir=$folder
    happened=0
    up=0
    for one in "$dir"/*; do
        case ${one#"$dir/"} in
        claim) [ ! -e "$one/nodes" ] || happened=$((happened + 1)) ;;
        ended) happened=$((happened + 1)) ;;
        esac
    done
    for one in "$dir"/services/*/*; do
        case $one in
        */exit) happened=$((happened + 1)) ;;
        */listening) up=$((up + 1)) ;;
        esac
    done
    [ "$up" -lt "$3" ] || happened=$((happened + up))
    [ "$happened" = "$4" ]
}

tell() { # tell NAME N WANT KNOWN SERVICE OFFSET...: what its folder says; who knows nothing yet is told of its certificate, too
    describe "$1" "$2" 1
    [ $# -gt 4 ] || certificate "$1" "$2"
}

logs_of() { # logs_of NUMBER WAIT...: lines "NAME N SERVICE OFFSET" of the first so many, with its place in the state folder where that is another one
    local number one
    number=$1
    shift
    for one in "$@"; do
        [ "$number" -gt 0 ] || break
        number=$((number - 1))
        # shellcheck disable=SC2086 # words, made by us
        each_log $one
    done
}

each_log() { # each_log NAME N WANT KNOWN SERVICE OFFSET...: who knows nothing yet is told of all logs, from the beginning
    local name number one place
    name=$1
    number=$2
    shift 4
    folder_of "$name" "$number"
    place=${folder#"$state_dir/$name/$number"}
    place=${place#"$state_dir/"}
    [ $# -gt 0 ] || for one in "$folder"/services/*/log; do
        one=${one%/log}
        [ ! -s "$one/log" ] || set -- "$@" "${one##*/}" 0
    done
    while [ $# -gt 1 ]; do
        printf '%s %s %s %s %s\n' "$name" "$number" "$1" "$2" "$place"
        shift 2
    done
}
