# Keeper and wrapper share this. They are one text, POSIX sh: the job's script (`keeper.sh DIR`) and each node's wrapper
# (`keeper.sh DIR wrap SERVICE KEEPER`).
# The settings above: scheduler nodes idle_limit start_timeout time_limit heartbeat_limit cpus_per_task, and
# `proofs`: "SERVICE DIGEST" lines of what is to be run, which travel with this text and not through DIR; `shared`: yes where
# others may write folders above DIR; `python`: of this machine, for the local cluster.
# Everything that happens is a file in DIR that appears by rename. No `set -e`: a failing command must not end a keeper; nor
# must a full folder.
dir=$1
script=$dir/keeper.sh
full="the state folder $dir cannot be written: it is full, over its quota, or read-only"

say() { printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"; }

reserve() { # reserve FILE: it keeps room for the file's last word, which must be said in a full folder too
    { printf '%900s\n' '' >"$1.room"; } 2>/dev/null || rm -f "$1.room"
}

settle() { # settle FILE LINE: the line takes the room that was reserved, if there is no other
    if put "$1" "$2"; then
        rm -f "$1.room"
    else
        [ -e "$1.room" ] && { printf '%s\n' "$2" 1<>"$1.room"; } 2>/dev/null && mv -f "$1.room" "$1"
    fi
}

# Shared: own.
is_exchanged() { # the folder was deleted, and what is there now was made for another job: nothing of it is ours
    local claimed
    [ -d "$dir/claim" ] || { # not claimed yet; of a file system that is away for a moment nothing is known
        [ -d "$dir" ] && [ ! -d "$dir/claim" ]
        return
    }
    claimed=$(first "$dir/claim/job")
    [ -n "$claimed" ] && [ "$claimed" != "$own" ]
}

settle_or_end() { # settle_or_end FILE LINE TRIES PAUSE: this shell says its last word where that is heard, and ends
    local tries
    tries=0
    until is_exchanged || settle "$1" "$2"; do
        tries=$((tries + 1))
        [ "$tries" -lt "$3" ] || exit 1
        nap "$4"
    done
    exit 0
}

nap() { # it sleeps so that a signal wakes it
    local napping
    sleep "$1" 2>/dev/null &
    napping=$!
    wait "$napping" 2>/dev/null
    kill "$napping" 2>/dev/null
    return 0
}
