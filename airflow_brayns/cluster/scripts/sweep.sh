# Once an hour somebody's submission sweeps: what ended more than a week ago is removed, what ended a day ago is folded away. Both
# together take 20 s at most: what there is no time for is the next one's. What has not our names, or is not where it seems to be
# (a link), stays: the state folder may be somebody's home.
# Shared: day deadline found lock swept.

sweep() { # it fails where that was done lately, or is done now
    is_due || return 1
    if mkdir "$state_dir/.sweeping" 2>/dev/null; then
        lock=$state_dir/.sweeping # it goes with us, however we end
        ! is_due || sweep_now
        rmdir "$lock" 2>/dev/null
        lock=
    elif [ -d "$state_dir/.sweeping" ]; then
        # Its owner was killed: the next one sweeps.
        [ "$(age_of "$state_dir/.sweeping")" -le 600 ] || rmdir "$state_dir/.sweeping" 2>/dev/null
        return 1
    else
        sweep_now # no room for a lock: then none to fold either
    fi
}

is_due() { [ "$(age_of "$state_dir/.swept")" -ge 3600 ]; }

mark_sweep() { refresh "$state_dir/.swept" "$(now)" && ! is_due; }

sweep_now() { # without room to note it, it folds nothing: each submission would; what it removes makes room
    local marked
    marked=
    ! mark_sweep || marked=yes
    swept=$(now)
    [ -z "$marked" ] || swept=$(stat -c %Y "$state_dir/.swept" 2>/dev/null) || return 0 # by its file system's own clock
    day=$((swept / 86400))
    deadline=$(($(now) + 20))
    remove_leavings
    (cd "$state_dir" && find_ended && remove_ended && { [ -n "$marked" ] || mark_sweep; } && [ -n "$lock" ] && fold_ended)
    return 0
}

remove_leavings() { # of commands that were killed
    local one name us hex
    us=$(id -u)
    for one in "$state_dir"/ab-????????????*/.lock; do
        name=${one%/.lock}
        case ${name##*/ab-} in *[!0-9a-f]*) continue ;; esac
        [ ! -d "$one" ] || ! is_plain "$one" || find "$one" -prune -mmin +120 -exec rmdir {} + 2>/dev/null
    done
    find "${TMPDIR:-/tmp}" "$state_dir" -mindepth 1 -maxdepth 1 -type d -name 'airflow-brayns.*' -user "$us" -mmin +120 \
        -exec rm -rf {} + 2>/dev/null
    find "$state_dir" -mindepth 1 -maxdepth 1 -type d -name 'ab-????????????*' ! -name 'ab-*[!0-9a-f]*' -user "$us" -mtime +7 -empty \
        -exec rmdir {} + 2>/dev/null
    # Programs that nobody has asked for since (find_program), and parts of some that did not arrive.
    hex='[0-9a-f][0-9a-f][0-9a-f][0-9a-f]'
    find "$state_dir/bin" -mindepth 1 -maxdepth 1 -type f -name "ffmpeg*-$hex$hex$hex" -user "$us" -mtime +30 -exec rm -f {} + 2>/dev/null
    find "$state_dir/bin" -mindepth 1 -maxdepth 1 -type f -name "ffmpeg*-$hex$hex$hex.$hex$hex" -user "$us" -mtime +1 -exec rm -f {} + 2>/dev/null
    return 0
}

is_plain() { # is_plain PATH: a folder of ours and no link, nor is the one it is in
    [ -d "$1" ] && [ ! -L "$1" ] && [ ! -L "${1%/*}" ] && [ -O "$1" ]
}

by_many() { # by_many FUNCTION: it is called with the lines of stdin, ten at once, until the deadline
    local function line
    function=$1
    set --
    while IFS= read -r line; do
        set -- "$@" "$line"
        [ $# -ge 10 ] || continue
        [ "$(now)" -lt "$deadline" ] || return 0
        "$function" "$@"
        set --
    done
    [ $# -eq 0 ] || [ "$(now)" -ge "$deadline" ] || "$function" "$@"
}

# The next ones work in the state folder.

find_ended() { # sets found, "SECONDS NAME/N" of each that has: what ended first comes first
    found=$(printf '%s\n' ab-*/[0-9]*/ended | grep -x 'ab-[0-9a-f]\{12,\}/[0-9][0-9]*/ended' | xargs stat -c '%Y %n' 2>/dev/null |
        sort -n | sed 's|/ended$||')
}

ended_between() { # ended_between LEAST MOST: which ended so many seconds ago
    printf '%s\n' "$found" | awk -v now="$swept" -v least="$1" -v most="$2" 'NF == 2 && now - $1 >= least && now - $1 < most { print $2 }'
}

remove_ended() { # what was folded away before the last week, and what never was
    local one
    for one in .ab-finished/[0-9]*; do
        case ${one##*/} in *[!0-9]*) continue ;; esac
        is_plain "$one" && [ "${one##*/}" -lt $((day - 7)) ] || continue
        printf '%s\n' "$one"/ab-* | grep -x '.*/ab-[0-9a-f]\{12\}' | by_many remove_all
        [ "$(ls -A "$one")" != fared ] || rm -f "$one/fared"
        rmdir "$one" 2>/dev/null
    done
    ended_between 691200 999999999999 | by_many remove_all
    return 0
}

remove_all() { # remove_all FOLDER...
    local one
    for one; do
        shift
        ! is_plain "$one" || set -- "$@" "$one"
    done
    [ $# -eq 0 ] || rm -rf -- "$@"
}
