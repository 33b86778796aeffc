# The keeper: holds an allocation, starts services in it, and ends it when told to or when nobody uses it.
# POSIX sh; the same text is the job's script (`keeper.sh DIR`) and each node's wrapper (`keeper.sh DIR wrap SERVICE KEEPER`).
# The settings above this line: scheduler nodes idle_limit start_timeout time_limit heartbeat_limit cpus_per_task, and
# `proofs`: "SERVICE DIGEST" lines of what is to be run, which travel with this text and not through DIR; `shared`: yes where
# others may write folders above DIR.
# Everything that happens is a file in DIR that appears by rename. No `set -e`: a failing command must not end a keeper; nor
# must a full folder: a write that fails is told by its exit code (never `: >file`, whose failure ends a POSIX shell).
set -u
umask 077
dir=$1
script=$dir/keeper.sh
full="the state folder $dir cannot be written: it is full, over its quota, or read-only"

say() { printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"; }
now() { date +%s; }
put() { # put FILE LINE: whole or not at all
    if { printf '%s\n' "$2" >"$1.new.$$"; } 2>/dev/null && IFS= read -r written <"$1.new.$$" && [ "$written" = "$2" ]; then
        mv -f "$1.new.$$" "$1" 2>/dev/null && return 0
    fi
    rm -f "$1.new.$$"
    return 1
}
refresh() { # refresh FILE LINE: also where there is no room: a line as long as before, in its place
    put "$1" "$2" || { [ -e "$1" ] && { printf '%s\n' "$2" 1<>"$1"; } 2>/dev/null; }
}
reserve() { # reserve FILE: room for its last word, which must be said in a full folder too
    { printf '%900s\n' '' >"$1.room"; } 2>/dev/null || rm -f "$1.room"
}
settle() { # settle FILE LINE: in the room that was reserved, if there is no other
    if put "$1" "$2"; then
        rm -f "$1.room"
    else
        [ -e "$1.room" ] && { printf '%s\n' "$2" 1<>"$1.room"; } 2>/dev/null && mv -f "$1.room" "$1"
    fi
}
digest() { # of its input
    if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi 2>/dev/null | cut -d' ' -f1
}
proof_of() { printf '%s\n' "$proofs" | awk -v name="$1" '$1 == name { print $2; exit }'; }
(trap '' XFSZ) 2>/dev/null && trap '' XFSZ # a limit on files' sizes is a full folder, too, and not our death
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
    tries=0
    until settle "$service_dir/exit" "$1 $2"; do
        tries=$((tries + 1))
        [ "$tries" -lt 15 ] || exit 1
        nap 2
    done
    exit 0
}

digest_of_line() { if [ -n "$1" ]; then printf '%s\n' "$1"; fi | digest; }

is_proved() { # is_proved SERVICE COMMAND: what was read is whole, and what was written by whoever asked for the service
    wanted=$(proof_of "$1")
    [ -n "$wanted" ] || wanted=$(first "$dir/services/$1/proof") # it was added later
    if [ -z "$wanted" ]; then [ "$shared" != yes ] || return 1; return 0; fi # 0.2.0 writes none
    for part in "$dir" "$dir/services" "$dir/services/$1" "$dir/services/$1/command"; do
        [ -O "$part" ] && [ ! -L "$part" ] || return 1
    done
    found=$(printf '%s  command\n%s  index\n%s  port\n%s  port.sed\n' "$(digest <"$2")" \
        "$(digest_of_line "$index")" "$(digest_of_line "$asked")" "$(digest_of_line "$patterns")" | digest)
    [ "$found" = "$wanted" ]
}

read_service() { # read_service SERVICE COMMAND: sets index asked patterns; fails when they or the command are not proved
    tries=0
    while :; do
        index=$(cat "$dir/services/$1/index" 2>/dev/null)
        asked=$(cat "$dir/services/$1/port" 2>/dev/null)
        patterns=$(cat "$dir/services/$1/port.sed" 2>/dev/null)
        is_proved "$1" "$2" && return 0
        tries=$((tries + 1))
        [ "$tries" -lt 4 ] || return 1
        nap 1 # a late file system has a few seconds
        ls "$dir/services/$1" >/dev/null 2>&1
    done
}

prove_tls() {
    wanted=$(proof_of /tls)
    [ -z "$wanted" ] || [ "$(cat "$dir/tls/cert.pem" "$dir/tls/key.pem" 2>/dev/null | digest)" = "$wanted" ]
}

unproved="is not what was written for it: it was cut off, or somebody changed it. Nothing of it was run; make room in the state folder, or see who may write there"

choose_port() { # sets AB_PORT from "0", "5000" or "5000-5009"
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
    LC_ALL=C sed -n -e "$patterns" "$service_dir/log" 2>/dev/null |
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

check_held() { # whether the socket is still the service's alone; three times in a row it is not: nobody may believe it any more
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
    reserve "$service_dir/exit"
    prove_tls || fail_service 94 "$dir/tls $unproved"
    apart=setsid
    command -v setsid >/dev/null 2>&1 || apart=
    leave=
    command=$service_dir/command
    if [ "$shared" = yes ] && [ -r "$command" ]; then # others may exchange the folder: what was opened is proved and run
        exec 9<"$command"
        command=/dev/fd/9
    fi
    read_service "$service" "$command" || fail_service 94 "the command of $service_dir $unproved"
    choose_port
    trap 'leave=signal' TERM INT HUP
    $apart bash -l "$command" >>"$service_dir/log" 2>&1 </dev/null &
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
        if [ -z "$patterns" ]; then # a step: nothing listens, its end is what is awaited
            nap 0.5
        elif [ ! -e "$service_dir/listening" ]; then
            check_listening
            nap 0.2
        else
            if [ $((time - bytes_at)) -ge 10 ]; then
                bytes_at=$time
                moved=$(moved_bytes "$(first "$service_dir/listening")")
                [ "$moved" = "$(first "$service_dir/bytes")" ] || refresh "$service_dir/bytes" "$moved"
                check_held
            fi
            nap 1
        fi
    done
}

# ---- the keeper: one allocation -------------------------------------------------------------------------------------

# What starts on a node is this very text: what lies in the folder is proved first, and what was proved is what runs.
# shellcheck disable=SC2016 # for the shell on the node
start_wrapper='exec 9<"$1" || exit 1
if command -v sha256sum >/dev/null; then sum=$(sha256sum </dev/fd/9); else sum=$(shasum -a 256 </dev/fd/9); fi
[ "${sum%% *}" = "$2" ] || { echo "$1 is not what was submitted: it was cut off, or somebody changed it"; exit 94; }
shift 2
exec sh /dev/fd/9 "$@"'

run_on() { # run_on NODE SERVICE: the wrapper on a node, in the background; its own troubles go into launch.log
    log=$dir/services/$2/launch.log
    place=$1
    set -- sh -c "$start_wrapper" sh "$script" "$self" "$dir" wrap "$2" $$ "$script" # the last word is for whoever reads `ps`
    if [ "$scheduler" != local ]; then
        set -- srun --overlap -N1 -n1 ${cpus_per_task:+-c "$cpus_per_task"} -w "$place" "$@"
    fi
    "$@" >"$log" 2>&1 </dev/null &
}

start_services() { # every folder with a command that has not been started
    for one in "$dir"/services/*/; do
        one=${one%/}
        service=${one##*/}
        index=
        [ -e "$one/command" ] && [ ! -e "$one/node" ] || continue
        if [ -e "$one/stop" ]; then
            [ -e "$one/exit" ] || settle "$one/exit" "0 stopped"
            continue
        fi
        if ! read_service "$service" "$one/command"; then
            put "$one/node" - && settle "$one/exit" "94 the command of $one $unproved"
            continue
        fi
        node=$(printf '%s\n' "$nodes" | awk -v number="$index" 'number + 0 > 0 { print $(number + 0) }')
        if [ -z "$node" ]; then
            put "$one/node" - && settle "$one/exit" "1 the allocation has no node number $index"
            continue
        fi
        put "$one/node" "$node" || continue # else it would be started a second time
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
            settle "$one/exit" "$code the wrapper on $(first "$one/node") ended with exit code $code: $(tail -n 3 "$one/launch.log" 2>/dev/null | tr '\n' ' ')" ||
                untold="$untold ${child%:*}:$code"
        }
        say "${child%:*}: $(first "$one/exit")"
    done
    children=$remaining
    remaining=
    for child in $untold; do
        one=$dir/services/${child%:*}
        [ -e "$one/exit" ] || put "$one/exit" "${child#*:} the wrapper ended with exit code ${child#*:}" || remaining="$remaining $child"
    done
    untold=$remaining
}

in_use() { # whatever changes when somebody uses the allocation
    cat "$dir/lease" "$dir"/services/*/bytes 2>/dev/null
}

end() { # end TEXT: stop the services, say why, end the job
    trap '' TERM INT HUP USR1
    say "ending: $1"
    settle "$dir/ending" "$1"
    unstopped=
    for child in $children; do put "$dir/services/${child%:*}/stop" now || unstopped=yes; done
    # srun, told to end, kills the wrapper before that has stopped its service and said so (seen): only one that has not seen
    # `stop` in time, on a late file system, is ended in this way.
    patience=30
    [ "$scheduler" != local ] && [ -z "$unstopped" ] || patience=0
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
    tries=0
    until settle "$dir/ended" "$1"; do
        tries=$((tries + 1))
        [ "$tries" -lt 5 ] || exit 1
        nap 1
    done
    exit 0
}

put_or_end() { # put_or_end FILE LINE: without it nobody can use the allocation; a folder that is full for a moment is waited for
    tries=0
    until put "$1" "$2"; do
        tries=$((tries + 1))
        [ "$tries" -lt 8 ] && [ -z "$told" ] && [ ! -e "$dir/release" ] || end "$full"
        nap 2
    done
}

keep() {
    ls "$dir" >/dev/null 2>&1 # a network file system shows a new name only after the folder was read
    [ ! -e "$dir/release" ] || {
        put "$dir/ended" "released before it started"
        exit 0
    }
    mkdir "$dir/claim" 2>/dev/null || {
        [ -d "$dir/claim" ] || {
            say "$full"
            settle "$dir/ended" "$full"
            exit 1
        }
        say "another job holds this allocation; leaving it alone"
        exit 0
    }
    woken=
    told=
    trap 'woken=yes' USR1
    trap 'told="told to end: the time limit is near, or somebody cancelled the job"' TERM INT HUP
    children=
    untold=
    self=$(digest <"$0")
    reserve "$dir/ending"
    reserve "$dir/ended"
    put "$dir/claim/job" "${SLURM_JOB_ID:-$$}"
    [ "$time_limit" = 0 ] || put "$dir/claim/ends" $(($(now) + time_limit))
    [ "$scheduler" != slurm ] || nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tr '\n' ' ')
    printf '%s\n' "$nodes" | tr -s ' ' '\n' >"$dir/nodes" 2>/dev/null
    began=$(now)
    used_at=$began
    looked_at=$began
    started_at=$began
    usage=$(in_use)
    beat=0
    lease=$(first "$dir/lease")
    [ $((began - ${lease:-$began})) -le "$idle_limit" ] || end "nobody has waited for this allocation for $((began - lease)) s"
    put_or_end "$dir/claim/nodes" "$nodes"
    while :; do
        beat=$((beat + 1))
        refresh "$dir/heartbeat" "$beat"
        ls "$dir" "$dir/services" >/dev/null 2>&1
        # Deleted or exchanged under us: nobody can reach the services any more.
        [ -d "$dir" ] && [ -O "$dir" ] || exit 1
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
