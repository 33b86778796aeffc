# There may be no room: each write is looked at, and its failure told.

write() { # write FILE LENGTH TEXT: LENGTH in bytes
    if { printf '%s' "$3" >"$1.new.$$"; } 2>/dev/null && [ "$(wc -c <"$1.new.$$")" -eq "$2" ]; then
        mv -f "$1.new.$$" "$1" 2>/dev/null && return 0
    fi
    rm -f "$1.new.$$"
    return 1
}

make() { { printf '' >>"$1"; } 2>/dev/null; } # an empty file

no_room() { # no_room FOLDER: why nothing could be written there: it is full (or a quota is), or may not be written at all
    local said
    said=$({ mkdir -p "$1" && dd if=/dev/zero of="$1/.room.$$" bs=4096 count=64; } 2>&1)
    rm -f "$1/.room.$$"
    case $said in
    *ermission\ denied* | *ead-only* | *ot\ permitted* | *ot\ a\ directory* | *File\ exists* | *o\ such\ file* | *ame\ too\ long* | *ymbolic\ links*)
        printf 'unwritable %s\n' "$1"
        ;;
    *) printf 'full %s\n' "$1" ;;
    esac
}

has_room() { # has_room DIR: for what the keeper and its services are going to write there, beside their logs
    { dd if=/dev/zero of="$1/room" bs=4096 count=8; } 2>/dev/null && [ "$(wc -c <"$1/room")" -eq 32768 ] || {
        rm -f "$1/room"
        return 1
    }
    rm -f "$1/room"
}
