# Frames lie on the cluster's file system: these functions tell whose the folder is, and what is there. POSIX sh, on the login machine.
# Set above: dir token. Texts of any kind travel in base64; answers are lines "key value…".
export LC_ALL=C
unwritable() { printf 'unwritable %s\n' "$(printf '%s' "$dir" | coded)"; }
claim() { # claim MOVIE: whole or not at all; under another name than a claim's until then
    local new
    new=$dir/.new-$token
    if { printf '%s\n' "$1" >"$new"; } 2>/dev/null && [ "$(cat "$new")" = "$1" ] && mv -f "$new" "$dir/.driver-$token"; then return 0; fi
    rm -f "$new"
    return 1
}
whose_claim() { # whose_claim FILE: for which movie, in base64, nothing where that cannot be told; a worker that has the folder mounted writes JSON
    local whose
    whose=$(sed 's/^{.*"coded": "\([A-Za-z0-9+/=]*\)".*/\1/' "$1" 2>/dev/null)
    case $whose in
    '{'*) sed -n 's/^{"movie": "\([^"\\]*\)".*/\1/p' "$1" 2>/dev/null | tr -d '\n' | coded ;; # 0.2.0 has the name only as it is
    *[!A-Za-z0-9+/=]*) ;;
    *) printf '%s' "$whose" ;;
    esac
}
append() { # append LINE: to the manifest; a line that was cut off must not swallow the next one
    [ ! -s "$dir/manifest.jsonl" ] || [ -z "$(tail -c 1 "$dir/manifest.jsonl")" ] || { printf '\n' >>"$dir/manifest.jsonl"; } 2>/dev/null ||
        return 1
    { printf '%s\n' "$1" >>"$dir/manifest.jsonl"; } 2>/dev/null && [ "$(tail -n 1 "$dir/manifest.jsonl")" = "$1" ]
}

open_frames() { # open_frames MOVIE SECONDS: take the folder over; MOVIE in base64; another movie heard of in SECONDS is in the way
    local tries one whose
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
        whose=$(whose_claim "$one")
        if [ "$whose" != "$1" ] && is_fresh "$one" "$2"; then
            rmdir "$dir/.driver-opening" 2>/dev/null
            printf 'busy %s\n' "$whose"
            return
        fi
    done
    claim "$1" || {
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

read_frames() { # it prints the manifest, for who takes nothing over
    [ ! -e "$dir/manifest.jsonl" ] || awk '{ printf "line %s\n", $0 }' "$dir/manifest.jsonl" || return 0 # and an end for a line that was cut off
    printf 'read\n'
}

is_fresh() { # is_fresh FILE SECONDS: by the file system's own clock; another machine's may be wrong by minutes
    local probe age
    probe=$dir/.driver-$token-clock
    { printf '' >"$probe"; } 2>/dev/null
    age=$(($(stat -c %Y "$probe" 2>/dev/null || date +%s) - $(stat -c %Y "$1" 2>/dev/null || echo 0)))
    rm -f "$probe"
    [ "$age" -lt "$2" ]
}

renew_frames() { # it notes that somebody renders, whether frames come or not
    touch -c "$dir/.driver-$token"
}

list_frames() { # name, size and time of each frame, and the name of what stands where one belongs and is no file
    find "$dir" -maxdepth 1 -name '[0-9]*' \( -type f -printf 'file %f %s %T@\n' -o -printf 'odd %f\n' \) 2>/dev/null
}

put_aside() { # put_aside FOLDER NAME...: what a movie that was changed has no use for any more, each name once
    local aside one
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
    local one sum
    for one in "$@"; do
        sum=$(sha256sum <"$dir/$one" 2>/dev/null) && printf 'hash %s %s\n' "$one" "${sum%% *}"
    done
}

ours() { # whether no other driver has taken the folder over
    [ -e "$dir/.driver-$token" ]
}

taken() { # whose it is now, if that can be told
    local one
    for one in "$dir"/.driver-*; do
        [ -f "$one" ] && printf 'superseded %s\n' "$(whose_claim "$one")" && return
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

close_frames() {
    rm -f "$dir/.driver-$token"
    find "$dir" -maxdepth 1 -name ".*.$token.part.*" -exec rm -f {} + 2>/dev/null
}
