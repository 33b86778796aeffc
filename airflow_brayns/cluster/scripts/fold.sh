# What ended a day ago is folded away, by the sweep; each of these works in the state folder.
# Set above: day swept found.

fold_ended() {
    [ ! -L .ab-finished ] || return 0
    # Tomorrow's, too: machines that see it late have seen it before it is used.
    mkdir -p ".ab-finished/$day" ".ab-finished/$((day + 1))" 2>/dev/null && is_plain ".ab-finished/$day" || return 0
    ended_between 86400 691200 | by_many fold_all
    ended_between 86400 999999999999 | sed 's|/.*||' | xargs rmdir 2>/dev/null
    return 0
}

fold_all() { # fold_all NAME/N...: it goes with one step, and is then where folder_of finds it
    local one place
    for one; do
        shift
        booking_of "${one%/*}"
        ! is_plain "$one" || [ -L ".ab-finished/$day/$booking" ] || set -- "$@" "$one"
    done
    [ $# -gt 0 ] || return 0
    shorten_logs "$@"
    for one; do
        booking_of "${one%/*}"
        printf '%s\n' ".ab-finished/$day/$booking/${one%/*}"
    done | xargs mkdir -p 2>/dev/null
    for one; do
        booking_of "${one%/*}"
        place=.ab-finished/$day/$booking/${one%/*}
        # Never onto one of that name, nor into it (`/.`): a version that does not look here counts from 1 again, and this one stays.
        is_plain "$place" && mv -f "$one" "$place/." 2>/dev/null && note_finished "$one" "$place/${one##*/}"
    done
}

note_finished() { # note_finished NAME/N FOLDER: what is asked of many: which node did well with what, and who listened at a port
    local service node asked port
    asked=
    [ ! -s "$2/asked" ] || read -r asked <"$2/asked"
    case $asked in '' | *[!0-9a-f]*) asked=- ;; esac
    for service in "$2"/services/*/; do
        service=${service%/}
        [ -s "$service/port.sed" ] && [ -s "$service/node" ] || continue
        read -r node <"$service/node" || continue
        port=-
        [ ! -s "$service/listening" ] || read -r port <"$service/listening"
        case $node/$port in *[!A-Za-z0-9._-]*/* | */*[!0-9-]*) continue ;; esac
        { printf '%s %s %s %s %s\n' "$node" "$1" "${service##*/}" "$asked" "$port" >>".ab-finished/$day/fared"; } 2>/dev/null
    done
}

shorten_logs() { # shorten_logs FOLDER...: a log of more than 4 MiB keeps its beginning, and the end, which tells why
    local log
    find "$@" -maxdepth 3 -type f \( -name log -o -name '*.log' \) -size +8192 2>/dev/null | while IFS= read -r log; do
        if {
            head -c 65536 "$log" &&
                printf '\nairflow-brayns: the middle of this log was taken out a day after the end\n' &&
                tail -c 1048576 "$log"
        } >"$log.new.$$" 2>/dev/null; then mv -f "$log.new.$$" "$log"; else rm -f "$log.new.$$"; fi
    done
}
