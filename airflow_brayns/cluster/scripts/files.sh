# Programs of ours are copied to the cluster once; other files there are only looked at.

is_whole() { # is_whole FILE DIGEST
    [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$2" ]
}

find_program() { # find_program NAME DIGEST: it tells where a program belongs, and whether it is there
    mkdir -p "$state_dir/bin" || no_room "$state_dir"
    check_folder
    printf 'program %s\n' "$state_dir/bin/$1"
    [ ! -x "$state_dir/bin/$1" ] || ! is_whole "$state_dir/bin/$1" "$2" || {
        touch -c "$state_dir/bin/$1" # so that no sweep takes away what is used
        echo there
    }
}

keep_program() { # keep_program PART FILE DIGEST: what came gets its name when it is whole
    if is_whole "$1" "$3" && chmod 700 "$1" && mv -f "$1" "$2"; then
        echo installed
    else
        rm -f "$1"
        no_room "$state_dir"
    fi
}

drop_program() { # drop_program PART: it did not arrive; whether for want of room
    has_room "$state_dir" || no_room "$state_dir"
    rm -f "$1"
}

identify() { # identify FILE...: it tells size and time, so that a file that was changed is noticed
    local one
    for one in "$@"; do stat -L -c 'file %s %Y' -- "$one" 2>/dev/null || printf 'unknown\n'; done
}

identify_files() { # identify_files NAME...: the same of those names that are files, which configurations may name
    local one
    for one in "$@"; do
        if [ -f "$one" ]; then identify "$one"; else echo unknown; fi
    done
}

texts_of() { # texts_of FILE...: the text of each, where it is a configuration's length
    local one
    for one in "$@"; do
        if [ -f "$one" ] && [ -r "$one" ] && [ "$(wc -c <"$one")" -le 262144 ]; then
            printf 'text %s\n' "$(coded <"$one")"
        else
            echo unknown
        fi
    done
}
