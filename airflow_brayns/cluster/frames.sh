# Frames on the cluster's file system. POSIX sh; runs on the login machine (open, listing) and on nodes (check).
# Set above this line: dir token. Texts of any kind travel in base64; answers are lines "key value…".
set -u
umask 077
export LC_ALL=C
coded() { base64 | tr -d '\n'; }
(trap '' XFSZ) 2>/dev/null && trap '' XFSZ # a limit on files' sizes is a full folder, too, and not our death
unwritable() { printf 'unwritable %s\n' "$(printf '%s' "$dir" | coded)"; }
# Each write is looked at; never `: >file`, whose failure ends a POSIX shell.
put() { # put FILE LINE: whole or not at all
    new=$dir/.new-$token
    if { printf '%s\n' "$2" >"$new"; } 2>/dev/null && [ "$(cat "$new")" = "$2" ] && mv -f "$new" "$1"; then return 0; fi
    rm -f "$new"
    return 1
}
append() { # append LINE: to the manifest; a line that was cut off must not swallow the next one
    [ ! -s "$dir/manifest.jsonl" ] || [ -z "$(tail -c 1 "$dir/manifest.jsonl")" ] || { printf '\n' >>"$dir/manifest.jsonl"; } 2>/dev/null ||
        return 1
    { printf '%s\n' "$1" >>"$dir/manifest.jsonl"; } 2>/dev/null && [ "$(tail -n 1 "$dir/manifest.jsonl")" = "$1" ]
}

open_frames() { # open_frames MOVIE SECONDS: take the folder over; MOVIE in base64; another movie heard of in SECONDS is in the way
    mkdir -p "$dir" 2>/dev/null && [ -w "$dir" ] || {
        unwritable
        return
    }
    tries=0 # one at a time: of two that come at the same moment the second sees the first
    until mkdir "$dir/.driver-opening" 2>/dev/null || [ "$tries" -ge 60 ]; do # after 15 s it is of one that was killed
        tries=$((tries + 1))
        sleep 0.25 2>/dev/null || sleep 1
    done
    for one in "$dir"/.driver-*; do
        [ -f "$one" ] && [ "$one" != "$dir/.driver-$token" ] || continue
        whose=$(cat "$one" 2>/dev/null)
        if [ "$whose" != "$1" ] && is_fresh "$one" "$2"; then
            rmdir "$dir/.driver-opening" 2>/dev/null
            printf 'busy %s\n' "$whose"
            return
        fi
    done
    put "$dir/.driver-$token" "$1" || {
        rmdir "$dir/.driver-opening" 2>/dev/null
        unwritable
        return
    }
    for one in "$dir"/.driver-*; do # only now: who misses his own reads in ours by whom he was taken over
        [ -f "$one" ] && [ "$one" != "$dir/.driver-$token" ] && rm -f "$one"
    done
    rmdir "$dir/.driver-opening" 2>/dev/null
    find "$dir" -maxdepth 1 \( -name '.[0-9]*.part.png' -o -name '.[0-9]*.part.jpg' \) ! -name "*.$token.part.*" -exec rm -f {} + 2>/dev/null
    printf 'opened\n'
    read_frames
}

read_frames() { # the manifest, for who takes nothing over
    [ ! -e "$dir/manifest.jsonl" ] || sed 's/^/line /' "$dir/manifest.jsonl"
    printf 'read\n'
}

is_fresh() { # is_fresh FILE SECONDS: by the file system's own clock; another machine's may be wrong by minutes
    probe=$dir/.driver-$token-clock
    { printf '' >"$probe"; } 2>/dev/null
    age=$(($(stat -c %Y "$probe" 2>/dev/null || date +%s) - $(stat -c %Y "$1" 2>/dev/null || echo 0)))
    rm -f "$probe"
    [ "$age" -lt "$2" ]
}

renew_frames() { # somebody renders, whether frames come or not
    touch -c "$dir/.driver-$token"
}

list_frames() { # name, size and time of each frame, and the name of what stands where one belongs and is no file
    find "$dir" -maxdepth 1 -name '[0-9]*' \( -type f -printf 'file %f %s %T@\n' -o -printf 'odd %f\n' \) 2>/dev/null
}

put_aside() { # put_aside FOLDER NAME...: what a movie that was changed has no use for any more, each name once
    aside=$dir/$1
    shift
    if ! ours; then
        taken
        return
    fi
    mkdir -p "$aside"
    for one in "$@"; do
        rm -rf "${aside:?}/$one"
        mv -f "$dir/$one" "$aside/$one" && printf 'moved\n' || printf 'unwritable\n'
    done
}

hash_frames() { # hash_frames NAME...: for those whose time is not what was written down
    for one in "$@"; do
        sum=$(sha256sum <"$dir/$one" 2>/dev/null) && printf 'hash %s %s\n' "$one" "${sum%% *}"
    done
}

ours() { # whether no other driver has taken the folder over
    [ -e "$dir/.driver-$token" ]
}

taken() { # whose it is now, if that can be told
    for one in "$dir"/.driver-*; do
        [ -f "$one" ] && printf 'superseded %s\n' "$(cat "$one")" && return
    done
    printf 'superseded\n'
}

begin_frames() { # begin_frames LINE
    if ours; then
        if append "$1"; then printf 'begun\n'; else unwritable; fi
    else
        taken
    fi
}

check_one() { # check_one PART WIDTH HEIGHT: decode it to its last pixel; prints "ok SHA SIZE" or "bad TEXT"
    said=$("$ffmpeg" -hide_banner -v info -nostdin -xerror -i "$1" -f null - 2>&1) || {
        printf 'bad %s' "$(printf 'it cannot be decoded: %s' "$(printf '%s' "$said" | tail -n 2)" | coded)"
        return
    }
    case $said in
    *", $2x$3"[,\ ]*) ;;
    *)
        printf 'bad %s' "$(printf 'it is not %sx%s pixels' "$2" "$3" | coded)"
        return
        ;;
    esac
    sum=$(sha256sum <"$1") && printf 'ok %s %s' "${sum%% *}" "$(wc -c <"$1" | tr -d ' ')"
}

check_frames() { # check_frames WIDTH HEIGHT <list of "NUMBER PART FINAL LINE">: several at once; LINE is the record without its end
    work=$(mktemp -d "${TMPDIR:-/tmp}/airflow-brayns.XXXXXX") || return 1
    trap 'rm -rf "$work"' EXIT
    trap 'exit 143' TERM HUP INT PIPE
    at_once=$(nproc 2>/dev/null || echo 2)
    running=0
    while read -r number part final line; do
        check_one "$dir/$part" "$1" "$2" >"$work/$number" 2>/dev/null &
        { printf '%s %s %s %s\n' "$number" "$part" "$final" "$line" >>"$work/list"; } 2>/dev/null || {
            wait
            dir=$work unwritable
            return
        }
        running=$((running + 1))
        [ "$running" -lt "$at_once" ] || {
            wait
            running=0
        }
    done
    wait
    touch -c "$dir/.driver-$token"
    while read -r number part final line; do
        result=$(cat "$work/$number")
        case $result in
        ok\ *)
            if ! ours; then
                taken
                break
            fi
            sum=${result#ok }
            if mv -f "$dir/$part" "$dir/$final" 2>/dev/null && mtime=$(stat -c %Y "$dir/$final") &&
                append "$line,\"sha256\":\"${sum% *}\",\"size\":${sum#* },\"mtime\":${mtime}000000000}"; then
                printf 'kept %s\n' "$number"
            else
                unwritable
                break
            fi
            ;;
        bad\ ?*)
            rm -f "$dir/$part"
            printf 'refused %s %s\n' "$number" "${result#bad }"
            ;;
        *) # what was found could not be written down: the frame is not to blame
            dir=$work unwritable
            break
            ;;
        esac
    done <"$work/list"
    rm -rf "$work"
}

close_frames() {
    rm -f "$dir/.driver-$token"
    find "$dir" -maxdepth 1 -name ".*.$token.part.*" -exec rm -f {} + 2>/dev/null
}
