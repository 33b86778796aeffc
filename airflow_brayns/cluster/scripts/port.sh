# A service's port is chosen before its start; afterwards it is told, if it is the service's alone.
# Shared: passed_over unheld port_given tried.

reserve_port() { # reserve_port PORT: fails while another service of this account on this node has it; a lock ends with who holds it
    local file code
    file=${dir%/*/*}/ports/$(uname -n).$1
    command -v flock >/dev/null 2>&1 && mkdir -p "${file%/*}" 2>/dev/null && { printf '' >>"$file"; } 2>/dev/null || return 0
    exec 8>>"$file"
    timeout 10 flock -n 8 2>/dev/null
    code=$?
    [ "$code" -ne 0 ] || return 0
    exec 8>&-
    [ "$code" -ne 1 ] # else this file system knows no locks: the next port is tried when this one turns out to be shared
}

choose_port() { # it sets port_given from "0", "5000" or "5000-5009"
    local tries
    tried=
    port_given=${asked:-0}
    case $asked in
    *-*) next_port || fail_service 98 "every port of $asked on $node is in use; give it a wider range, or port 0" ;;
    0 | '') ;;
    *)
        tries=0
        until reserve_port "$asked"; do # one that is ending has it for a moment
            tries=$((tries + 1))
            [ "$tries" -lt 10 ] || fail_service 98 "port $asked on $node is another service's of yours; give a range such as $asked-$((asked + 9)), or port 0"
            nap 0.5
        done
        [ -z "$(listening_sockets "$asked")" ] ||
            fail_service 98 "port $asked on $node is already in use by $(who_listens "$asked")choose another, or port 0"
        ;;
    esac
}

next_port() { # it sets one of a range that is free and was not tried; it fails where there is none, and for one port alone
    local from size number apart port
    case $asked in *-*) ;; *) return 1 ;; esac
    from=${asked%-*}
    size=$((${asked#*-} - from + 1))
    number=0
    apart=0
    [ -z "$tried" ] || apart=$$ # whoever is in the way may look for another one, too
    while [ "$number" -lt "$size" ]; do
        port=$((number + apart))
        port=$((from + port % size))
        number=$((number + 1))
        case " $tried " in *" $port "*) continue ;; esac
        if [ -z "$(listening_sockets "$port")" ] && reserve_port "$port"; then
            tried="$tried $port"
            port_given=$port
            return 0
        fi
    done
    return 1
}

lost_the_port() { # it tells whether somebody else took it between our look and the service's start
    [ ! -e "$service_dir/listening" ] && [ -n "$(listening_sockets "$port_given")" ]
}

named_ports() { # it prints the ports that lines of the log name, in their order; whoever writes to the log can name one
    local port
    # In the C locale any byte is a character; elsewhere a line with another encoding's would be matched only in part.
    # `read` fails on a line that has not ended yet: of `…:5000` only `…:50` may be there.
    LC_ALL=C sed -n -e "$patterns" "$service_dir/log" 2>/dev/null |
        while IFS= read -r port; do
            case $port in '' | 0 | *[!0-9]* | ??????*) ;; *) printf '%s\n' "$port" ;; esac
        done | awk '!seen[$0]++' | head -n 50
}

check_listening() { # once the log names a port on which the service itself listens, and nobody else: tell it; fails with a next port
    local port text
    for port in $(named_ports); do
        classify "$port"
        if [ -n "$ours" ] && ! in_the_way; then
            put "$service_dir/listening" "$port"
            return 0
        elif [ -n "$ours" ]; then
            text="port $port on $node is shared with $(who_listens "$port")stop the stranger, or use port 0"
            stop_service
            ! next_port || return 1
            fail_service 98 "$text"
        elif [ -n "$strangers" ] && [ "$port_given" = "$port" ]; then
            text="port $port on $node is not ours but $(who_listens "$port")use port 0"
            stop_service
            ! next_port || return 1
            fail_service 98 "$text"
        elif [ -n "$strangers" ]; then
            case " $passed_over " in
            *" $port "*) ;;
            *)
                passed_over="$passed_over $port"
                say "the log names port $port, where $(who_listens "$port")it is not the service's own"
                ;;
            esac
        fi
    done
    return 0
}

check_held() { # it looks whether the socket is still the service's alone; three times in a row it is not: nobody may believe it any more
    local port text
    port=$(first "$service_dir/listening")
    classify "$port"
    if [ -n "$ours" ] && ! in_the_way; then
        unheld=0
        return
    fi
    # A node on which nothing can be started for want of processes or memory shows nothing, which says nothing.
    [ "$(awk 'END { print "read" }' /proc/net/tcp 2>/dev/null)" = read ] || return 0
    unheld=$((unheld + 1))
    if [ "$unheld" -ge 3 ] && kill -0 "$service_pid" 2>/dev/null; then
        text="the service no longer listens alone on port $port of $node; start it anew"
        stop_service
        fail_service 98 "$text"
    fi
}

moved_bytes() {
    command -v ss >/dev/null 2>&1 || return 0
    ss -Htin state established "( sport = :$1 )" 2>/dev/null | awk '
        { for (i = 1; i <= NF; i++) if ($i ~ /^bytes_(acked|received|sent):/) { split($i, part, ":"); sum += part[2] } }
        END { print sum + 0 }'
}
