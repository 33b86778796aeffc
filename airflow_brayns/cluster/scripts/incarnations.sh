# An allocation has incarnations: these functions tell whose they are, and see to it that at most one lives.
# Shared: lock.

locked() { # locked NAME: only one at a time works on an allocation; a lock that its owner left behind is broken after two minutes
    local tries age
    mkdir -p "$state_dir/$1" || return 1
    tries=0
    while ! mkdir "$state_dir/$1/.lock" 2>/dev/null; do
        mkdir -p "$state_dir/$1" 2>/dev/null # a sweep has taken it away when it was empty
        if age=$(age_of "$state_dir/$1/.lock") && [ "$age" -gt 120 ]; then
            mv "$state_dir/$1/.lock" "$state_dir/$1/.stale.$$" 2>/dev/null && rmdir "$state_dir/$1/.stale.$$"
        fi
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || return 1
        sleep 0.2 2>/dev/null || sleep 1
    done
    lock=$state_dir/$1/.lock
}

latest() { # the number of the newest incarnation of NAME, 0 for none
    local newest one
    newest=0
    booking_of "$1"
    for one in "$state_dir/$1"/[0-9]*/ "$state_dir"/.ab-finished/*/"$booking/$1"/[0-9]*/; do
        one=${one%/}
        [ -d "$one" ] && [ "${one##*/}" -gt "$newest" ] && newest=${one##*/}
    done
    printf '%s' "$newest"
}

newest() { # newest NAME: the number of the incarnation that goes on, or is to; fails where all were given back, or have ended
    local number end living
    number=$(latest "$1")
    while [ "$number" -gt 0 ]; do
        living=yes
        for end in release ending ended cancelled; do [ ! -e "$state_dir/$1/$number/$end" ] || living=; done
        [ -z "$living" ] || [ ! -d "$state_dir/$1/$number" ] || {
            printf '%s' "$number"
            return 0
        }
        number=$((number - 1))
    done
    return 1
}

is_given_back() { # is_given_back NAME N: what a follow-up is for; nobody would give back what follows on it
    [ "$2" -ne 0 ] || return 1
    folder_of "$1" "$2"
    [ -e "$folder/release" ] || [ -e "$folder/cancelled" ]
}

take_over() { # take_over DIR TOKEN: the owner's file is renamed; whoever cannot rename is not the owner any more
    local one
    [ -e "$1/owner.$2" ] && return 0 # the same try again: its worker was lost
    for one in "$1"/owner.*; do
        [ -e "$one" ] && mv "$one" "$1/owner.$2" && return 0
    done
    return 1
}

report_job() { # report_job DIR N ADOPTED
    printf 'incarnation %s\nadopted %s\njob %s\nfolder %s\n' "$2" "$3" "$(first "$1/job")" "$1"
}

end_earlier() { # end_earlier NAME N: the incarnations before N are of no use any more
    local one
    for one in "$state_dir/$1"/[0-9]*/; do
        one=${one%/}
        [ -d "$one" ] && [ "${one##*/}" -lt "$2" ] && [ ! -e "$one/release" ] || continue
        give_up "$one"
    done
}

await_earlier() { # await_earlier NAME N: the jobs before incarnation N have ended: at most one of an allocation is ever alive
    local tries answer living state number one
    [ "$2" -gt 1 ] || return 0
    tries=0
    while [ "$tries" -lt 60 ] && answer=$(jobs_of "$state_dir/$1"/[0-9]*); do
        living=$(printf '%s\n' "$answer" | awk -F'|' -v name="$1-" -v before="$2" 'NF > 8 && index($(NF - 3), name) == 1 && substr($(NF - 3), length(name) + 1) + 0 < before { print $2, substr($(NF - 3), length(name) + 1) }' |
            while read -r state number; do holds_nodes "$state" && printf '%s ' "$number"; done)
        [ -n "$living" ] || return 0
        # Its keeper had the time that a release has.
        [ "$tries" -ne 40 ] || for one in $living; do end_job "$state_dir/$1/$one" hard; done
        tries=$((tries + 1))
        sleep 0.25 2>/dev/null || sleep 1
    done
}
