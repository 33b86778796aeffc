# Frames are checked in a step on a node, and get their names there. POSIX sh, below ffmpeg.sh and frames.sh.
# Set above: dir token ffmpeg proved, and look (empty where no frame's colours are wanted: something was seen in one).
# Shared: work look dir.

check_one() { # check_one PART WIDTH HEIGHT: decode it to its last pixel; prints "ok SHA SIZE" or "bad TEXT"
    local said sum
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

is_flat() { # is_flat FILE: all its pixels are of one colour
    "$ffmpeg" -v error -nostdin -i "$1" -vf signalstats,metadata=print:file=- -f null - 2>/dev/null </dev/null |
        awk -F= '/[.][YUV]MIN=/ { low += $2; found = 1 } /[.][YUV]MAX=/ { high += $2 } END { exit !(found && low == high) }'
}

check_frames() { # check_frames WIDTH HEIGHT <list of "NUMBER PART FINAL LINE">: several at once; LINE is the record without its end
    local at_once running number part final line result sum mtime
    prove_ffmpeg || {
        if [ $? -eq 2 ]; then
            printf 'failed %s\n' "$(printf 'nothing may be executed from state_dir (noexec), nor from TMPDIR: choose another state_dir' | coded)"
        else
            printf 'unproved\n'
        fi
        return
    }
    [ -z "$proved" ] || printf 'proved %s\n' "$proved"
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
        if [ ! -e "$dir/$part" ] && grep -qF -- "$line," "$dir/manifest.jsonl" 2>/dev/null; then
            printf 'kept %s\n' "$number" # by a node that could not say so any more
            continue
        fi
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
                if [ -n "$look" ] && is_flat "$dir/$final"; then printf 'flat %s\n' "$number"; else look=; fi
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
