# Every script of ours has these functions: on the login machine, in a job, on a node. POSIX sh.
set -u
umask 077
(trap '' XFSZ) 2>/dev/null && trap '' XFSZ # a limit on files' sizes is a full folder, too, and not our death

now() { date +%s; }

# A write that fails is told by its exit code; never `: >file`, whose failure ends a POSIX shell.
put() { # put FILE LINE: the file appears whole or not at all
    local written
    if { printf '%s\n' "$2" >"$1.new.$$"; } 2>/dev/null && IFS= read -r written <"$1.new.$$" && [ "$written" = "$2" ]; then
        mv -f "$1.new.$$" "$1" 2>/dev/null && return 0
    fi
    rm -f "$1.new.$$"
    return 1
}

refresh() { # refresh FILE LINE: without room, a line as long as before is written in its place
    put "$1" "$2" || { [ -e "$1" ] && { printf '%s\n' "$2" 1<>"$1"; } 2>/dev/null; }
}

first() {
    local line
    line=
    [ -e "$1" ] && IFS= read -r line <"$1"
    printf '%s' "$line"
}

coded() { base64 | tr -d '\n'; }

age_of() { # age_of FILE: seconds since it was written, by its file system's own clock: those of two machines may be hours apart
    local written probe time
    written=$(stat -c %Y "$1" 2>/dev/null)
    [ -n "$written" ] || {
        printf 999999999
        return 1
    }
    probe=${1%/*}/.clock.$$
    { printf '' >"$probe"; } 2>/dev/null && time=$(stat -c %Y "$probe" 2>/dev/null) || time=$(now)
    rm -f "$probe"
    time=$((time - written))
    [ "$time" -ge 0 ] || time=0
    printf '%s' "$time"
}

plain() { # it takes out the colours and carriage returns that a site's wrappers put into what they show
    local escape
    escape=$(printf '\033')
    tr -d '\r' | sed "s/$escape\\[[0-9;?]*[A-Za-z]//g; s/$escape([A-Z0-9]//g"
}
