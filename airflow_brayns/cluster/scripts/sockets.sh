# The kernel tells whose sockets listen on a port of this node. Set above: dir.
# Shared: service service_dir service_pid, of whom they are to be; ours strangers.

listening_sockets() { # "inode uid address" of each socket that listens on a TCP port; an IPv4 address within IPv6 is IPv4
    local hex
    hex=$(printf '%04X' "$1")
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port=":$hex" '
        $4 == "0A" && substr($2, length($2) - 4) == port {
            address = substr($2, 1, length($2) - 5)
            sub(/^0000000000000000FFFF0000/, "", address)
            print $10, $8, address
        }' | sort -u
}

holds_socket() { # holds_socket INODE PID...
    local wanted one
    wanted=$1
    shift
    for one in "$@"; do
        # shellcheck disable=SC2010 # the links' targets are what counts, and only ls shows them in POSIX
        ls -l "/proc/$one/fd" 2>/dev/null | grep -q "socket:\[$wanted\]" && return 0
    done
    return 1
}

is_our_socket() { # is_our_socket INODE UID PID...: the processes are the service's
    local wanted its_user holders one
    wanted=$1
    its_user=$2
    shift 2
    holds_socket "$wanted" "$@" && return 0
    # shellcheck disable=SC2012 # as above
    holders=$(ls -l /proc/[0-9]*/fd 2>/dev/null |
        awk -v wanted="socket:[$wanted]" '/^\/proc\// { split($0, part, "/"); pid = part[3] } $NF == wanted { print pid }')
    for one in $holders; do comes_from_us "$one" && return 0; done
    [ -z "$holders" ] || return 1
    # A container runtime's processes may hide what they hold from their own user, and sudo's are another's.
    for one in "$@"; do
        ! ls "/proc/$one/fd" >/dev/null 2>&1 && case $(stat -c %u "/proc/$one" 2>/dev/null) in
        "$its_user") return 0 ;;
        '') ;;
        *) [ "$its_user" != "$(id -u)" ] || return 0 ;;
        esac
    done
    return 1
}

classify() { # classify PORT: sets ours and strangers, the addresses on which sockets listen there
    local sockets inode uid address
    ours=
    strangers=
    sockets=$(listening_sockets "$1")
    [ -n "$sockets" ] || return 0
    # shellcheck disable=SC2046 # one word a process id
    set -- $(family_pids "$service_pid" '')
    while read -r inode uid address; do
        if is_our_socket "$inode" "$uid" "$@"; then ours="$ours $address"; else strangers="$strangers $address"; fi
    done <<SOCKETS
$sockets
SOCKETS
}

is_every_address() { # is_every_address HEX: 0.0.0.0 or ::
    case $1 in *[!0]*) return 1 ;; *) return 0 ;; esac
}

in_the_way() { # whether who means our socket could get a stranger's: not where that listens on another address of the node
    local theirs mine
    for theirs in $strangers; do
        is_every_address "$theirs" && return 0
        for mine in $ours; do
            [ "$mine" != "$theirs" ] || return 0
            is_every_address "$mine" && return 0
        done
    done
    return 1
}

who_listens() { # a text that names whoever listens on a port
    local inode uid owner found proc
    listening_sockets "$1" | while read -r inode uid _; do
        owner=$(id -nu "$uid" 2>/dev/null || printf 'uid %s' "$uid")
        found=
        for proc in /proc/[0-9]*; do
            if holds_socket "$inode" "${proc#/proc/}"; then
                found=" (pid ${proc#/proc/}: $(tr '\0\n' '  ' <"$proc/cmdline" 2>/dev/null | cut -c1-120))"
                break
            fi
        done
        printf 'a process of user %s%s; ' "$owner" "$found"
    done
}

held() { # held SERVICE: asked from outside, of the node's kernel: `socket ours`, `gone` (it has ended) or `strange`, and who is there
    local port theirs uid
    service=$1
    service_dir=$dir/services/$1
    ls "$service_dir" >/dev/null 2>&1
    service_pid=$(first "$service_dir/pid")
    port=$(first "$service_dir/listening")
    case $service_pid,$port in ,* | *, | *[!0-9,]*) return ;; esac
    classify "$port"
    theirs=$(listening_sockets "$port" | while read -r _ uid _; do id -nu "$uid" 2>/dev/null || printf 'uid:%s\n' "$uid"; done |
        sort -u | tr '\n' ' ')
    if [ -z "$(family_pids "$service_pid" '')" ]; then
        printf 'socket gone %s\n' "$theirs"
    elif [ -n "$ours" ] && ! in_the_way; then
        printf 'socket ours\n'
    else
        printf 'socket strange %s\n' "$theirs"
    fi
}
