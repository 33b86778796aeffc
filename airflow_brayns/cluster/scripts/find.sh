# A service that somebody uses is found by its address, and it is told what has become of it.

listening_at() { # listening_at PORT: every service of ours that listens, or listened last, there, the latest first, with its node
    local one line name number service lives
    for one in "$state_dir"/ab-*/[0-9]*/services/*/listening; do
        line=
        [ -e "$one" ] && IFS= read -r line <"$one"
        [ "$line" != "$1" ] || ! is_ours "${one%/listening}" || set -- "$@" "$one"
    done
    # Of what was folded away the last one of each node.
    # shellcheck disable=SC2013 # words
    for line in $(cat "$state_dir"/.ab-finished/*/fared 2>/dev/null |
        awk -v port="$1" 'NF == 5 && $5 == port { last[$1] = $2 "/" $3 } END { for (node in last) print last[node] }'); do
        service=${line##*/}
        line=${line%/*}
        folder_of "${line%/*}" "${line##*/}"
        one=$folder/services/$service/listening
        [ "$(first "$one")" != "$1" ] || ! is_ours "${one%/listening}" || set -- "$@" "$one"
    done
    shift
    [ $# -gt 0 ] || return 0
    # shellcheck disable=SC2012 # names of ours
    ls -td "$@" | while IFS= read -r one; do
        one=${one%/listening}
        number=${one%/services/*}
        name=${number%/*}
        lives=lives
        [ ! -e "$one/exit" ] && [ ! -e "$number/ended" ] || lives=over
        printf 'at %s %s %s %s %s\n' "${name##*/}" "${number##*/}" "${one##*/}" "$lives" "$(first "$one/node")"
    done
}

hosts() { # hosts HOST...: names and addresses of this machine (`.`), and of each as this machine and the scheduler know it
    local one nodes
    printf 'host . %s\n' "$({
        uname -n
        at_most 5 hostname -f
        hostname -I
    } 2>/dev/null | tr '\n' ' ')"
    for one; do # at once: a name service that does not answer takes its time each time
        printf 'host %s %s\n' "$one" "$(at_most 5 getent ahosts "$one" 2>/dev/null | awk '{ print $1, $3 }' | tr '\n' ' ')" &
    done
    wait
    nodes=$(printf '%s,' "$@")
    at_most 5 scontrol -o show node "${nodes%,}" 2>/dev/null |
        sed -n 's/^NodeName=\([^ ]*\) .*NodeAddr=\([^ ]*\) NodeHostName=\([^ ]*\).*/host \1 \2 \3/p'
}

examine() { # examine NAME N SERVICE SCRIPT: what its folder and the scheduler tell, its last lines, and what SCRIPT says on its node
    local id
    folder_of "$1" "$2"
    set -- "$1" "$2" "$3" "$4" "$folder"
    printf 'examined %s %s %s\n' "$1" "$2" "$3"
    describe "$1" "$2" 1
    printf 'folder %s\n' "$(printf '%s' "$5" | coded)"
    [ ! -e "$5/keeper.sh" ] || printf 'idle %s\n' "$(sed -n '/^idle_limit=/{s/^idle_limit=//p;q;}' "$5/keeper.sh")"
    [ ! -e "$5/services/$3/port" ] || printf 'asked %s\n' "$(first "$5/services/$3/port")"
    [ ! -e "$5/services/$3/log" ] || printf 'tail %s\n' "$(tail -c 8192 "$5/services/$3/log" | tail -n 8 | coded)"
    look_at_jobs "$5"
    # While neither its end nor the job's is known.
    if [ -n "$4" ] && [ -e "$5/services/$3/listening" ] && [ ! -e "$5/services/$3/exit" ] && [ ! -e "$5/ended" ]; then
        id=$(first "$5/job")
        step "${id%% *}" 5 "$([ "$scheduler" = local ] || first "$5/services/$3/node")" "service_dir='$(printf '%s' "$5/services/$3" | sed "s/'/'\\\\''/g")'
$4"
    fi
}

post_mortem() { # post_mortem NAME N: it tells what the keeper wrote, and sacct where there is one
    local dir id
    folder_of "$1" "$2"
    dir=$folder
    printf 'keeper %s\n' "$(tail -n 20 "$dir/keeper.log" 2>/dev/null | coded)"
    if [ "$scheduler" = slurm ] && command -v sacct >/dev/null 2>&1; then
        id=$(first "$dir/job")
        printf 'sacct %s\n' "$(at_most 10 sacct -X -n -P -j "${id%% *}" -o State,ExitCode,Reason 2>/dev/null | coded)"
    fi
}
