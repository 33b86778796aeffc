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
    for one in "$dir"/.driver-*; do
        [ -e "$one" ] && [ "$one" != "$dir/.driver-$token" ] || continue
        whose=$(cat "$one" 2>/dev/null)
        if [ "$whose" != "$1" ] && [ -n "$(find "$one" -prune -newermt "-$2 seconds" 2>/dev/null)" ]; then
            printf 'busy %s\n' "$whose"
            return
        fi
        rm -f "$one"
    done
    printf '%s\n' "$1" >"$dir/.driver-$token"
    find "$dir" -maxdepth 1 -name '.*.part.*' ! -name "*.$token.part.*" -exec rm -f {} + 2>/dev/null
    # A line that was cut off must not swallow the next one.
    [ ! -s "$dir/manifest.jsonl" ] || [ -z "$(tail -c 1 "$dir/manifest.jsonl")" ] || echo >>"$dir/manifest.jsonl"
    printf 'opened\n'
    [ ! -e "$dir/manifest.jsonl" ] || sed 's/^/line /' "$dir/manifest.jsonl"
}

list_frames() { # name, size and time of each frame
    find "$dir" -maxdepth 1 -name '[0-9]*' -type f -printf 'file %f %s %T@\n' 2>/dev/null
}

hash_frames() { # hash_frames NAME...: for those whose time is not what was written down
    for one in "$@"; do
        sum=$(sha256sum <"$dir/$one" 2>/dev/null) && printf 'hash %s %s\n' "$one" "${sum%% *}"
    done
}

ours() { # whether no other driver has taken the folder over; says so once in a while by the claim's time
    [ -e "$dir/.driver-$token" ]
}

begin_frames() { # begin_frames LINE
    if ours; then
        printf '%s\n' "$1" >>"$dir/manifest.jsonl" && printf 'begun\n'
    else
        printf 'superseded\n'
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
                printf 'superseded\n'
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
