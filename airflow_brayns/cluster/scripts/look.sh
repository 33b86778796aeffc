# A look tells what the folder of an allocation says, at once or when there is something new.
# Shared: value clock.

is_ours() { # is_ours FOLDER: it is there, and nobody else's
    [ -d "$1" ] && [ -O "$1" ] && [ -O "$state_dir" ]
}

describe() { # describe NAME N LEASE: all that the folder of an allocation tells; LEASE 1: somebody waits for it
    local dir one told
    folder_of "$1" "$2"
    dir=$folder
    printf 'allocation %s %s\n' "$1" "$2"
    is_ours "$dir" || { # what somebody else put in its place is not believed
        printf 'gone\n'
        return
    }
    [ "$3" != 1 ] || [ -e "$dir/ended" ] || note_use "$dir"
    # No process is made below for what nearly all allocations have: a look describes thousands. That a folder is read (`*`)
    # makes a shared file system show what is in it now.
    value "$dir/job"
    printf 'job %s\n' "$value"
    for one in "$dir"/*; do
        case ${one##*/} in
        claim) ! value "$one/nodes" || printf 'nodes %s\n' "$value" ;;
        release) printf 'released\n' ;;
        ending) printf 'ending %s\n' "$(beginning "$one")" ;;
        ended) printf 'ended %s\n' "$(beginning "$one")" ;;
        heartbeat)
            value "$one"
            printf 'heartbeat %s\n' "$value"
            [ "$3" != 0 ] || printf 'unheard %s\n' "$(age_of "$one")"
            ;;
        until) ! value "$one" || printf 'until %s\n' "$value" ;;
        next) ! value "$one" || printf 'next %s\n' "$value" ;;
        owner.*) printf 'owner %s\n' "${one##*/owner.}" ;;
        esac
    done
    told=
    for one in "$dir"/services/*/*; do # `command` is the first of them that is told of; a folder without one is no service yet
        case ${one##*/} in
        command)
            told=${one%/*}
            printf 'service %s\n' "${told##*/}"
            ;;
        *) [ "${one%/*}" = "$told" ] || continue ;;
        esac
        case ${one##*/} in
        exit) printf 'exit %s\n' "$(beginning "$one")" ;;
        listening) ! value "$one" || printf 'listening %s\n' "$value" ;;
        node) ! value "$one" || printf 'node %s\n' "$value" ;;
        pid) ! value "$one" || printf 'pid %s\n' "$value" ;;
        esac
    done
}

beginning() { head -c 4096 "$1" | coded; } # of a file that may have grown to anything: a look is many waits'

value() { # value FILE: sets `value` to its first line; fails where there is none of that name
    value=
    [ -e "$1" ] && { IFS= read -r value <"$1" || :; }
}

clock=
note_use() { # note_use DIR: somebody waits for it; the same number of digits is written in its place, without a process
    [ -n "$clock" ] || clock=$(now)
    if [ -s "$1/lease" ]; then { printf '%s\n' "$clock" 1<>"$1/lease"; } 2>/dev/null; else refresh "$1/lease" "$clock"; fi
}

certificate() { # certificate NAME N: what the allocation's services prove themselves with
    local file
    folder_of "$1" "$2"
    file=$folder/tls/cert.pem
    ! is_ours "$folder" || [ ! -O "$file" ] || printf 'certificate %s %s %s\n' "$1" "$2" "$(coded <"$file")"
}

survey() { # it describes every allocation in the state folder that has not ended, and every job of ours
    local one name
    set --
    for one in "$state_dir"/ab-*/[0-9]*/; do [ -d "$one" ] && [ ! -e "$one/ended" ] && set -- "$@" "${one%/}"; done
    for one in "$@"; do
        name=${one%/*}
        describe "${name##*/}" "${one##*/}" 0
        printf 'about %s\n' "$(coded <"$one/about" 2>/dev/null)"
    done
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
