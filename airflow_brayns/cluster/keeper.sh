# The keeper: holds an allocation, starts services in it, and ends it when told to or when nobody uses it.
# POSIX sh; the same text is the job's script (`keeper.sh DIR`) and each node's wrapper (`keeper.sh DIR wrap SERVICE KEEPER`).
# The settings above this line: scheduler nodes idle_limit start_timeout time_limit heartbeat_limit cpus_per_task.
# Everything that happens is a file in DIR that appears by rename. No `set -e`: a failing command must not end a keeper.
set -u
umask 077
dir=$1
script=$dir/keeper.sh

say() { printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"; }
now() { date +%s; }
put() { printf '%s\n' "$2" >"$1.new.$$" && mv -f "$1.new.$$" "$1"; }
first() { # the first line of a file, or nothing
    line=
    [ -e "$1" ] && IFS= read -r line <"$1"
    printf '%s' "$line"
}
nap() { # sleeps so that a signal wakes it
    sleep "$1" 2>/dev/null &
    napping=$!
    wait "$napping" 2>/dev/null
    kill "$napping" 2>/dev/null
    return 0
}

# ---- the wrapper: one service on one node ---------------------------------------------------------------------------

session_pids() { # every process of the service's session
    cat /proc/[0-9]*/stat 2>/dev/null | awk -v session="$1" '{ pid = $1; sub(/^.*\) /, ""); if ($4 == session) print pid }'
}

family_pids() { # every process of the service's session, and all that come from these, in whatever session
    cat /proc/[0-9]*/stat 2>/dev/null | awk -v session="$1" '
        { pid = $1; sub(/^.*\) /, ""); if ($1 == "Z") next; parent[pid] = $2; if ($4 == session || pid == session) ours[pid] = 1 }
        END {
            do {
                more = 0
                for (pid in parent) if (!(pid in ours) && (parent[pid] in ours)) { ours[pid] = 1; more = 1 }
            } while (more)
            for (pid in ours) print pid
        }'
}

listening_sockets() { # "inode uid address" of each socket that listens on a TCP port; an IPv4 address within IPv6 is IPv4
    hex=$(printf '%04X' "$1")
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port=":$hex" '
        $4 == "0A" && substr($2, length($2) - 4) == port {
            address = substr($2, 1, length($2) - 5)
            sub(/^0000000000000000FFFF0000/, "", address)
            print $10, $8, address
        }' | sort -u
}

holds_socket() { # holds_socket INODE PID...
    wanted=$1
    shift
    for one in "$@"; do
        # shellcheck disable=SC2010 # the links' targets are what counts, and only ls shows them in POSIX
        ls -l "/proc/$one/fd" 2>/dev/null | grep -q "socket:\[$wanted\]" && return 0
    done
    return 1
}

bears_our_mark() { # bears_our_mark PID: started by this service, though its parents have gone; or of the same step of the job
    [ -O "/proc/$1" ] || return 1
    if [ "$(tr '\0' '\n' <"/proc/$1/environ" 2>/dev/null | grep -cxF -e "AB_FOLDER=$dir" -e "AB_SERVICE=$service")" = 2 ]; then return 0; fi
    case $(cat /proc/self/cgroup 2>/dev/null) in
    */step_[0-9]*) [ "$(cat "/proc/$1/cgroup" 2>/dev/null)" = "$(cat /proc/self/cgroup)" ] ;;
    *) return 1 ;;
    esac
}

is_our_socket() { # is_our_socket INODE UID PID...: the processes are the service's
    wanted=$1
    its_user=$2
    shift 2
    holds_socket "$wanted" "$@" && return 0
    # shellcheck disable=SC2012 # as above
    holders=$(ls -l /proc/[0-9]*/fd 2>/dev/null |
        awk -v wanted="socket:[$wanted]" '/^\/proc\// { split($0, part, "/"); pid = part[3] } $NF == wanted { print pid }')
    for one in $holders; do bears_our_mark "$one" && return 0; done
    [ -z "$holders" ] && [ "$its_user" = "$(id -u)" ] || return 1
    # A container runtime's processes may hide what they hold from their own user.
    for one in "$@"; do
        [ -d "/proc/$one" ] && ! ls "/proc/$one/fd" >/dev/null 2>&1 && return 0
    done
    return 1
}

classify() { # classify PORT: sets ours and strangers, the addresses on which sockets listen there
    ours=
    strangers=
    sockets=$(listening_sockets "$1")
    [ -n "$sockets" ] || return 0
    # shellcheck disable=SC2046 # one word a process id
    set -- $(family_pids "$service_pid")
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

fail_service() { # fail_service CODE TEXT
    put "$service_dir/exit" "$1 $2"
    exit 0
}

choose_port() { # sets AB_PORT from "0", "5000" or "5000-5009"
    asked=$(first "$service_dir/port")
    AB_PORT=${asked:-0}
    case $asked in
    *-*)
        port=${asked%-*}
        while [ "$port" -le "${asked#*-}" ]; do
            [ -z "$(listening_sockets "$port")" ] && break
            port=$((port + 1))
        done
        [ "$port" -le "${asked#*-}" ] || fail_service 98 "every port of $asked on $node is in use"
        AB_PORT=$port
        ;;
    0 | '') ;;
    *)
        [ -z "$(listening_sockets "$asked")" ] ||
            fail_service 98 "port $asked on $node is already in use by $(who_listens "$asked")choose another, or port 0"
        ;;
    esac
    AB_FOLDER=$dir # where the allocation's certificate is
    AB_SERVICE=$service # by both, what the service starts is known for its own
    export AB_PORT AB_FOLDER AB_SERVICE
}

stop_service() {
    kill -TERM "-$service_pid" 2>/dev/null || kill -TERM "$service_pid" 2>/dev/null
    tries=0
    while [ "$tries" -lt 25 ] && [ -n "$(session_pids "$service_pid")" ]; do
        nap 0.2
        tries=$((tries + 1))
    done
    for one in $(session_pids "$service_pid"); do kill -KILL "$one" 2>/dev/null; done
}

named_ports() { # the ports that lines of the log name, in their order; whoever writes to the log can name one
    # In the C locale any byte is a character; elsewhere a line with another encoding's would be matched only in part.
    # `read` fails on a line that has not ended yet: of `…:5000` only `…:50` may be there.
    LC_ALL=C sed -n -f "$service_dir/port.sed" "$service_dir/log" 2>/dev/null |
        while IFS= read -r port; do
            case $port in '' | 0 | *[!0-9]* | ??????*) ;; *) printf '%s\n' "$port" ;; esac
        done | awk '!seen[$0]++' | head -n 50
}

check_listening() { # once the log names a port on which the service itself listens, and nobody else: tell it
    for port in $(named_ports); do
        classify "$port"
        if [ -n "$ours" ] && ! in_the_way; then
            put "$service_dir/listening" "$port"
            return
        elif [ -n "$ours" ]; then
            text="port $port on $node is shared with $(who_listens "$port")stop the stranger, or use port 0"
            stop_service
            fail_service 98 "$text"
        elif [ -n "$strangers" ] && [ "$AB_PORT" = "$port" ]; then
            text="port $port on $node is not ours but $(who_listens "$port")use port 0"
            stop_service
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
}

check_held() { # whether the socket is still the service's alone; twice in a row it is not: nobody may believe it any more
    port=$(first "$service_dir/listening")
    classify "$port"
    if [ -n "$ours" ] && ! in_the_way; then
        unheld=0
        return
    fi
    unheld=$((unheld + 1))
    if [ "$unheld" -ge 2 ] && kill -0 "$service_pid" 2>/dev/null; then
        text="the service no longer listens alone on port $port of $node; start it anew"
        stop_service
        fail_service 98 "$text"
    fi
}

held() { # held SERVICE: asked from outside, of the node's kernel: `socket ours`, `gone` (it has ended) or `strange`, and who is there
    service=$1
    service_dir=$dir/services/$1
    ls "$service_dir" >/dev/null 2>&1
    service_pid=$(first "$service_dir/pid")
    port=$(first "$service_dir/listening")
    case $service_pid,$port in ,* | *, | *[!0-9,]*) return ;; esac
    classify "$port"
    theirs=$(listening_sockets "$port" | while read -r _ uid _; do id -nu "$uid" 2>/dev/null || printf 'uid:%s\n' "$uid"; done |
        sort -u | tr '\n' ' ')
    if [ -z "$(family_pids "$service_pid")" ]; then
        printf 'socket gone %s\n' "$theirs"
    elif [ -n "$ours" ] && ! in_the_way; then
        printf 'socket ours\n'
    else
        printf 'socket strange %s\n' "$theirs"
    fi
}

moved_bytes() {
    command -v ss >/dev/null 2>&1 || return 0
    ss -Htin state established "( sport = :$1 )" 2>/dev/null | awk '
        { for (i = 1; i <= NF; i++) if ($i ~ /^bytes_(acked|received|sent):/) { split($i, part, ":"); sum += part[2] } }
        END { print sum + 0 }'
}

wrap() {
    service=$1
    keeper_pid=$2
    service_dir=$dir/services/$service
    node=$(first "$service_dir/node")
    choose_port
    leave=
    trap 'leave=signal' TERM INT HUP
    if command -v setsid >/dev/null 2>&1; then
        setsid bash -l "$service_dir/command" >>"$service_dir/log" 2>&1 </dev/null &
    else
        bash -l "$service_dir/command" >>"$service_dir/log" 2>&1 </dev/null &
    fi
    service_pid=$!
    put "$service_dir/pid" "$service_pid"
    beat=
    beat_at=$(now)
    looked_at=$beat_at
    bytes_at=0
    passed_over=
    unheld=0
    while :; do
        if ! kill -0 "$service_pid" 2>/dev/null; then
            wait "$service_pid"
            code=$?
            stop_service # what it left in its session
            fail_service "$code" "the service ended with exit code $code"
        fi
        ls "$service_dir" >/dev/null 2>&1
        if [ -e "$service_dir/stop" ] || [ -n "$leave" ]; then
            stop_service
            fail_service 0 "stopped"
        fi
        if [ "$scheduler" = local ] && ! kill -0 "$keeper_pid" 2>/dev/null; then
            stop_service
            fail_service 1 "the keeper has gone"
        fi
        time=$(now)
        [ $((time - looked_at)) -lt 30 ] || beat_at=$time # we were suspended ourselves: no sign of anything
        looked_at=$time
        heard=$(first "$dir/heartbeat")
        if [ "$heard" != "$beat" ]; then
            beat=$heard
            beat_at=$time
        elif [ $((time - beat_at)) -gt "$heartbeat_limit" ]; then
            stop_service
            fail_service 1 "no sign of the keeper for $heartbeat_limit s"
        fi
        if [ ! -s "$service_dir/port.sed" ]; then # a step: nothing listens, its end is what is awaited
            nap 0.5
        elif [ ! -e "$service_dir/listening" ]; then
            check_listening
            nap 0.2
        else
            if [ $((time - bytes_at)) -ge 10 ]; then
                bytes_at=$time
                moved=$(moved_bytes "$(first "$service_dir/listening")")
                [ "$moved" = "$(first "$service_dir/bytes")" ] || put "$service_dir/bytes" "$moved"
                check_held
            fi
            nap 1
        fi
    done
}

# ---- the keeper: one allocation -------------------------------------------------------------------------------------

run_on() { # run_on NODE SERVICE: the wrapper on a node, in the background; its own troubles go into launch.log
    log=$dir/services/$2/launch.log
    if [ "$scheduler" = local ]; then
        sh "$script" "$dir" wrap "$2" $$ >"$log" 2>&1 </dev/null &
    elif [ -n "$cpus_per_task" ]; then
        srun --overlap -N1 -n1 -c "$cpus_per_task" -w "$1" sh "$script" "$dir" wrap "$2" 0 >"$log" 2>&1 </dev/null &
    else
        srun --overlap -N1 -n1 -w "$1" sh "$script" "$dir" wrap "$2" 0 >"$log" 2>&1 </dev/null &
    fi
}

start_services() { # every folder with a command that has not been started
    for one in "$dir"/services/*/; do
        one=${one%/}
        service=${one##*/}
        [ -e "$one/command" ] && [ ! -e "$one/node" ] || continue
        if [ -e "$one/stop" ]; then
            [ -e "$one/exit" ] || put "$one/exit" "0 stopped"
            continue
        fi
        node=$(sed -n "$(first "$one/index")p" "$dir/nodes" 2>/dev/null)
        if [ -z "$node" ]; then
            put "$one/node" -
            put "$one/exit" "1 the allocation has no node number $(first "$one/index")"
            continue
        fi
        put "$one/node" "$node"
        say "starting $service on $node"
        run_on "$node" "$service"
        children="$children $service:$!"
        started_at=$(now)
    done
}

look_after_children() {
    remaining=
    for child in $children; do
        if kill -0 "${child#*:}" 2>/dev/null; then
            remaining="$remaining $child"
            continue
        fi
        wait "${child#*:}"
        code=$?
        one=$dir/services/${child%:*}
        ls "$one" >/dev/null 2>&1
        # The wrapper was killed before it could say why: the node was lost, or srun could not start it.
        [ -e "$one/exit" ] || {
            [ "$scheduler" = local ] && [ -e "$one/pid" ] && kill -KILL "-$(first "$one/pid")" 2>/dev/null
            put "$one/exit" "$code the wrapper on $(first "$one/node") ended with exit code $code: $(tail -n 3 "$one/launch.log" 2>/dev/null | tr '\n' ' ')"
        }
        say "${child%:*}: $(first "$one/exit")"
    done
    children=$remaining
}

in_use() { # whatever changes when somebody uses the allocation
    cat "$dir/lease" "$dir"/services/*/bytes 2>/dev/null
}

end() { # end TEXT: stop the services, say why, end the job
    trap '' TERM INT HUP USR1
    say "ending: $1"
    put "$dir/ending" "$1"
    for child in $children; do : >"$dir/services/${child%:*}/stop"; done
    # srun, told to end, kills the wrapper before that has stopped its service and said so (seen): only one that has not seen
    # `stop` in time, on a late file system, is ended in this way.
    patience=30
    [ "$scheduler" != local ] || patience=0
    tries=0
    while [ -n "$children" ] && [ "$tries" -lt 40 ]; do
        if [ "$tries" -eq "$patience" ]; then
            for child in $children; do kill -TERM "${child#*:}" 2>/dev/null; done
        fi
        nap 0.2
        look_after_children
        tries=$((tries + 1))
    done
    rm -f "$dir/tls/key.pem" # it is of no use any more
    put "$dir/ended" "$1"
    exit 0
}

keep() {
    ls "$dir" >/dev/null 2>&1 # a network file system shows a new name only after the folder was read
    [ ! -e "$dir/release" ] || {
        put "$dir/ended" "released before it started"
        exit 0
    }
    mkdir "$dir/claim" 2>/dev/null || {
        say "another job holds this allocation; leaving it alone"
        exit 0
    }
    woken=
    told=
    trap 'woken=yes' USR1
    trap 'told="told to end: the time limit is near, or somebody cancelled the job"' TERM INT HUP
    put "$dir/claim/job" "${SLURM_JOB_ID:-$$}"
    [ "$time_limit" = 0 ] || put "$dir/claim/ends" $(($(now) + time_limit))
    if [ "$scheduler" = slurm ]; then
        scontrol show hostnames "$SLURM_JOB_NODELIST" >"$dir/nodes.new" && mv "$dir/nodes.new" "$dir/nodes"
    else
        printf '%s\n' "$nodes" | tr ' ' '\n' >"$dir/nodes.new" && mv "$dir/nodes.new" "$dir/nodes"
    fi
    began=$(now)
    used_at=$began
    looked_at=$began
    started_at=$began
    usage=$(in_use)
    beat=0
    children=
    lease=$(first "$dir/lease")
    [ $((began - ${lease:-$began})) -le "$idle_limit" ] || end "nobody has waited for this allocation for $((began - lease)) s"
    put "$dir/claim/nodes" "$(tr '\n' ' ' <"$dir/nodes")"
    while :; do
        beat=$((beat + 1))
        put "$dir/heartbeat" "$beat"
        ls "$dir" "$dir/services" >/dev/null 2>&1
        [ -d "$dir" ] || exit 1 # the folder was deleted under us: nobody can reach the services any more
        [ -z "$told" ] || end "$told"
        [ ! -e "$dir/release" ] || end "released"
        start_services
        look_after_children
        time=$(now)
        [ $((time - looked_at)) -lt 30 ] || used_at=$time # the job was suspended: that is no idleness
        looked_at=$time
        latest=$(in_use)
        if [ "$latest" != "$usage" ]; then
            usage=$latest
            used_at=$time
        fi
        [ $((time - used_at)) -le "$idle_limit" ] || end "not used for $idle_limit s (idle_limit)"
        [ "$time_limit" = 0 ] || [ $((time - began)) -lt "$time_limit" ] || end "time limit of $time_limit s reached"
        if [ -n "$children" ] && [ $((time - started_at)) -gt "$start_timeout" ]; then
            awaited=
            for one in "$dir"/services/*/; do
                [ ! -s "$one/port.sed" ] || [ -e "$one/exit" ] || awaited=yes
                [ ! -e "$one/listening" ] || awaited=no
                [ "$awaited" != no ] || break
            done
            [ "$awaited" != yes ] || end "no service listened within $start_timeout s (start_timeout)"
        fi
        [ -n "$woken" ] || nap 2
        woken=
    done
}

case ${2-} in
wrap) wrap "$3" "$4" ;;
held) held "$3" ;;
*) keep ;;
esac
