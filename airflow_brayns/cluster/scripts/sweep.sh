# Once an hour somebody's submission sweeps: what ended an hour ago is folded away, what did a week ago is removed. Each takes a few
# seconds at most: what there is no time for is the next one's.
# Shared: day swept.

sweep() { # it touches what has our names: the folder may hold other things too; it fails where that was done lately
    [ "$(age_of "$state_dir/.swept")" -ge 3600 ] || return 1
    put "$state_dir/.swept" "$(now)"
    swept=$(stat -c %Y "$state_dir/.swept" 2>/dev/null) || return 0 # by its file system's own clock
    day=$((swept / 86400))
    (cd "$state_dir" && remove_finished && fold_finished)
    # Of commands that were killed.
    find "$state_dir"/ab-*/.lock -prune -type d -mmin +120 -exec rmdir {} + 2>/dev/null
    find "${TMPDIR:-/tmp}" "$state_dir" -mindepth 1 -maxdepth 1 -type d -name 'airflow-brayns.*' -user "$(id -un)" -mmin +120 \
        -exec rm -rf {} + 2>/dev/null
    find "$state_dir" -mindepth 1 -maxdepth 1 -type d -name 'ab-*' -mtime +7 -empty -exec rmdir {} + 2>/dev/null
    # Programs that nobody has asked for since (find_program), and parts of some that did not arrive.
    find "$state_dir/bin" -mindepth 1 -maxdepth 1 -type f -name '*-????????????' -mtime +30 -exec rm -f {} + 2>/dev/null
    find "$state_dir/bin" -mindepth 1 -maxdepth 1 -type f -name '*-????????????.????????' -mtime +1 -exec rm -f {} + 2>/dev/null
    return 0
}

by_many() { # by_many SECONDS FUNCTION: it is called with the lines of stdin, a hundred at once, for so long
    local function line deadline
    deadline=$(($(now) + $1))
    function=$2
    set --
    while IFS= read -r line; do
        set -- "$@" "$line"
        [ $# -ge 100 ] || continue
        "$function" "$@"
        set --
        [ "$(now)" -lt "$deadline" ] || return 0
    done
    [ $# -eq 0 ] || "$function" "$@"
}

remove_finished() { # in the state folder, what was folded away before the last week
    local one
    for one in finished/[0-9]*/; do
        one=${one%/}
        [ -d "$one" ] && [ "${one##*/}" -lt $((day - 8)) ] || continue
        # shellcheck disable=SC2012 # names of ours
        ls "$one" | (cd "$one" && by_many 5 remove_all)
        rmdir "$one" 2>/dev/null
    done
    return 0
}

remove_all() { rm -rf -- "$@"; } # remove_all FOLDER...

fold_finished() { # in the state folder: what ended first comes first
    local found
    # Tomorrow's, too: machines that see it late have seen it before it is used.
    mkdir -p "finished/$day" "finished/$((day + 1))" 2>/dev/null || return 0
    found=$(printf '%s\n' ab-*/[0-9]*/ended | grep -x 'ab-[0-9a-f]*/[0-9]*/ended' | xargs stat -c '%Y %n' 2>/dev/null | sort -n | sed 's|/ended$||')
    printf '%s\n' "$found" | awk -v now="$swept" 'NF == 2 && now - $1 >= 691200 { print $2 }' | by_many 5 remove_all
    printf '%s\n' "$found" | awk -v now="$swept" 'NF == 2 && now - $1 >= 3600 && now - $1 < 691200 { print $2 }' | by_many 10 fold_all
    printf '%s\n' "$found" | awk -v now="$swept" 'NF == 2 && now - $1 >= 3600 { sub("/.*", "", $2); print $2 }' | xargs rmdir 2>/dev/null
    return 0
}

fold_all() { # fold_all NAME/N...: it goes with one step, and is then where folder_of finds it
    local one
    shorten_logs "$@"
    for one in "$@"; do
        booking_of "${one%/*}"
        printf '%s\n' "finished/$day/$booking/${one%/*}"
    done | xargs mkdir -p 2>/dev/null
    for one in "$@"; do
        booking_of "${one%/*}"
        # A version that does not look here counts from 1 again.
        [ ! -e "finished/$day/$booking/$one" ] || rm -rf "finished/$day/$booking/$one"
        mv -f "$one" "finished/$day/$booking/$one" 2>/dev/null && note_finished "$one" "finished/$day/$booking/$one"
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
        { printf '%s %s %s %s %s\n' "$node" "$1" "${service##*/}" "$asked" "$port" >>"finished/$day/fared"; } 2>/dev/null
    done
}

shorten_logs() { # shorten_logs FOLDER...: a log of more than 4 MiB keeps its beginning, and the end, which tells why
    local log
    find "$@" -maxdepth 3 -type f \( -name log -o -name '*.log' \) -size +8192 2>/dev/null | while IFS= read -r log; do
        if {
            head -c 65536 "$log"
            printf '\nairflow-brayns: the middle of this log was taken out when it was an hour old\n'
            tail -c 1048576 "$log"
        } >"$log.new.$$" 2>/dev/null; then mv -f "$log.new.$$" "$log"; else rm -f "$log.new.$$"; fi
    done
}
