# A look tells what the folder of an allocation says, at once or when there is something new.

is_ours() { # is_ours FOLDER: it is there, and nobody else's
    [ -d "$1" ] && [ -O "$1" ] && [ -O "$state_dir" ]
}

describe() { # describe NAME N LEASE: everything the folder of an allocation tells; LEASE 1: somebody waits for it
    local dir one key
    dir=$state_dir/$1/$2
    ls "$dir" "$dir"/services/*/ >/dev/null 2>&1
    printf 'allocation %s %s\n' "$1" "$2"
    is_ours "$dir" || { # what somebody else put in its place is not believed
        printf 'gone\n'
        return
    }
    [ "$3" = 1 ] && [ ! -e "$dir/ended" ] && refresh "$dir/lease" "$(now)"
    printf 'job %s\n' "$(first "$dir/job")"
    [ -e "$dir/claim/nodes" ] && printf 'nodes %s\n' "$(first "$dir/claim/nodes")"
    [ -e "$dir/release" ] && printf 'released\n'
    [ -e "$dir/ending" ] && printf 'ending %s\n' "$(coded <"$dir/ending")"
    [ -e "$dir/ended" ] && printf 'ended %s\n' "$(coded <"$dir/ended")"
    printf 'heartbeat %s\n' "$(first "$dir/heartbeat")"
    [ "$3" = 1 ] || [ ! -e "$dir/heartbeat" ] || printf 'unheard %s\n' "$(age_of "$dir/heartbeat")"
    for one in "$dir"/owner.*; do [ -e "$one" ] && printf 'owner %s\n' "${one##*/owner.}"; done
    for one in "$dir"/services/*/; do
        one=${one%/}
        [ -e "$one/command" ] || continue
        printf 'service %s\n' "${one##*/}"
        for key in node listening pid; do [ -e "$one/$key" ] && printf '%s %s\n' "$key" "$(first "$one/$key")"; done
        [ -e "$one/exit" ] && printf 'exit %s\n' "$(coded <"$one/exit")"
    done
}

certificate() { # certificate NAME N: what the allocation's services prove themselves with
    local file
    file=$state_dir/$1/$2/tls/cert.pem
    ! is_ours "$state_dir/$1/$2" || [ ! -O "$file" ] || printf 'certificate %s %s %s\n' "$1" "$2" "$(coded <"$file")"
}

log_since() { # log_since NAME N SERVICE OFFSET: new bytes of a service's log, at most 64 KiB
    local file size
    file=$state_dir/$1/$2/services/$3/log
    [ -e "$file" ] || return 0
    size=$(wc -c <"$file")
    [ "$size" -gt "$4" ] || return 0
    printf 'log %s %s %s %s %s\n' "$1" "$2" "$3" "$4" "$(tail -c "+$(($4 + 1))" "$file" | head -c 65536 | coded)"
}

all_logs() { # all_logs NAME N: from the beginning, for whoever knows nothing yet
    local log
    for log in "$state_dir/$1/$2"/services/*/log; do
        [ -e "$log" ] || continue
        log=${log%/log}
        log_since "$1" "$2" "${log##*/}" 0
    done
}

list_all() { # it describes every allocation in the state folder that has not ended
    local folder name
    for folder in "$state_dir"/ab-*/[0-9]*/; do
        folder=${folder%/}
        [ -d "$folder" ] && [ ! -e "$folder/ended" ] || continue
        name=${folder%/*}
        describe "${name##*/}" "${folder##*/}" 0
        printf 'about %s\n' "$(coded <"$folder/about" 2>/dev/null)"
    done
}

survey() { # it describes them, and every job of ours
    local one
    list_all
    set --
    for one in "$state_dir"/ab-*/[0-9]*/; do [ -d "$one" ] && [ ! -e "$one/ended" ] && set -- "$@" "${one%/}"; done
    look_at_jobs "$@"
}

partitions_of() { # partitions_of JOB: those in which it may run; a site's own rules may have chosen others than were asked for
    local told
    if told=$(at_most 20 squeue -h -j "$1" -o '
in %P' 2>"$errors"); then
        printf 'partitions %s\n' "$(printf '%s\n' "$told" | plain | sed -n 's/^in \([^ ][^ ]*\) *$/\1/p' | head -n 1)"
    else
        printf 'silent %s\n' "$(coded <"$errors")"
    fi
}

progress_of() { # progress_of NAME N WANT: how many things have happened that a waiter wants to hear of at once
    local happened one up
    set -- "$state_dir/$1/$2" "$3"
    happened=0
    for one in "$1/claim/nodes" "$1/ended" "$1"/services/*/exit; do
        [ -e "$one" ] && happened=$((happened + 1))
    done
    up=0
    for one in "$1"/services/*/listening; do
        [ -e "$one" ] && up=$((up + 1))
    done
    [ "$up" -ge "$2" ] && happened=$((happened + up))
    printf '%s' "$happened"
}

await_news() { # await_news SECONDS TICK "NAME N WANT KNOWN"...: returns early when something has happened
    local deadline tick waiter
    deadline=$(($(now) + $1))
    tick=$2
    shift 2
    while [ "$(now)" -lt "$deadline" ]; do
        for waiter in "$@"; do
            # shellcheck disable=SC2086 # four words, made by us
            set_waiter $waiter || return 0
        done
        sleep "$tick" 2>/dev/null || sleep 1
    done
}

set_waiter() { # fails when NAME N WANT shows another count than KNOWN
    [ -d "$state_dir/$1/$2" ] && ls "$state_dir/$1/$2" "$state_dir/$1/$2"/services/*/ >/dev/null 2>&1
    [ "$(progress_of "$1" "$2" "$3")" = "$4" ]
}
