# Frames on the cluster's file system. POSIX sh; runs on the login machine (open, listing) and on nodes (check).
# Set above this line: dir token. Texts of any kind travel in base64; answers are lines "key value…".
set -u
umask 077
export LC_ALL=C
coded() { base64 | tr -d '\n'; }

open_frames() { # open_frames MOVIE SECONDS: take the folder over; MOVIE in base64; another movie heard of in SECONDS is in the way
    mkdir -p "$dir" && [ -w "$dir" ] || {
        printf 'unwritable %s\n' "$(printf '%s' "$dir" | coded)"
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
        rm -f "$one"
    done
    printf '%s\n' "$1" >"$dir/.driver-$token"
    rmdir "$dir/.driver-opening" 2>/dev/null
    find "$dir" -maxdepth 1 \( -name '.[0-9]*.part.png' -o -name '.[0-9]*.part.jpg' \) ! -name "*.$token.part.*" -exec rm -f {} + 2>/dev/null
    # A line that was cut off must not swallow the next one.
    [ ! -s "$dir/manifest.jsonl" ] || [ -z "$(tail -c 1 "$dir/manifest.jsonl")" ] || echo >>"$dir/manifest.jsonl"
    printf 'opened\n'
    read_frames
}

read_frames() { # the manifest, for who takes nothing over
    [ ! -e "$dir/manifest.jsonl" ] || sed 's/^/line /' "$dir/manifest.jsonl"
    printf 'read\n'
}

is_fresh() { # is_fresh FILE SECONDS: by the file system's own clock; another machine's may be wrong by minutes
    probe=$dir/.driver-$token-clock
    : >"$probe" 2>/dev/null
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
        printf '%s\n' "$1" >>"$dir/manifest.jsonl" && printf 'begun\n'
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
        printf '%s %s %s %s\n' "$number" "$part" "$final" "$line" >>"$work/list"
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
            mv -f "$dir/$part" "$dir/$final" || {
                printf 'unwritable %s\n' "$(printf '%s' "$dir" | coded)"
                break
            }
            mtime=$(stat -c %Y "$dir/$final")
            printf '%s,"sha256":"%s","size":%s,"mtime":%s000000000}\n' "$line" "${sum% *}" "${sum#* }" "$mtime" >>"$dir/manifest.jsonl" || {
                printf 'unwritable %s\n' "$(printf '%s' "$dir" | coded)"
                break
            }
            printf 'kept %s\n' "$number"
            ;;
        *)
            rm -f "$dir/$part"
            printf 'refused %s %s\n' "$number" "${result#bad }"
            ;;
        esac
    done <"$work/list"
    rm -rf "$work"
}

close_frames() {
    rm -f "$dir/.driver-$token"
    find "$dir" -maxdepth 1 -name ".*.$token.part.*" -exec rm -f {} + 2>/dev/null
}
