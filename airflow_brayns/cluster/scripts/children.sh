# The keeper starts an allocation's services, each below a wrapper on its node.
# The wrapper is this very text: what lies in the folder is proved first, and what was proved is what runs.
# shellcheck disable=SC2016 # for the shell on the node
# Shared: children untold started_at nodes self.
start_wrapper='exec 9<"$1" || exit 1
if command -v sha256sum >/dev/null; then sum=$(sha256sum </dev/fd/9); else sum=$(shasum -a 256 </dev/fd/9); fi
[ "${sum%% *}" = "$2" ] || { echo "$1 is not what was submitted: it was cut off, or somebody changed it"; exit 94; }
shift 2
exec sh /dev/fd/9 "$@"'

# On this machine no Slurm ends what a service started: the wrapper is to be the parent of all whose own have ended (36: a subreaper).
adopt_orphans='import os, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
except Exception:
    pass
os.execvp(sys.argv[1], sys.argv[1:])'

run_on() { # run_on NODE SERVICE: the wrapper runs on a node, in the background; its own troubles go into launch.log
    local log place
    log=$dir/services/$2/launch.log
    place=$1
    set -- sh -c "$start_wrapper" sh "$script" "$self" "$dir" wrap "$2" $$ "$script" # the last word is for whoever reads `ps`
    if [ "$scheduler" != local ]; then
        set -- srun --overlap -N1 -n1 ${cpus_per_task:+-c "$cpus_per_task"} -w "$place" "$@"
    elif [ -x "$python" ]; then
        set -- "$python" -I -S -c "$adopt_orphans" "$@"
    fi
    "$@" >"$log" 2>&1 </dev/null &
}

start_services() { # each folder whose command has not been started gets a wrapper
    local one service index node
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

kill_service() { # kill_service SERVICE: it ends what is left of a service whose wrapper was killed
    local service service_pid one
    service=$1
    service_pid=$(first "$dir/services/$1/pid")
    for one in $(service_pids); do kill -KILL "$one" 2>/dev/null; done
}

look_after_children() {
    local remaining child code one why
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
            [ "$scheduler" = local ] && [ -e "$one/pid" ] && kill_service "${child%:*}"
            why=$(tail -n 3 "$one/launch.log" 2>/dev/null | tr '\n' ' ')
            [ -n "$why" ] || [ -e "$one/pid" ] || [ "$scheduler" = local ] || why="srun said nothing; where it is a script of the site's, see that it hands on its words as they are (\"\$@\")"
            why="$code the wrapper on $(first "$one/node") ended with exit code $code: $why"
            [ ! -e "$one/stop" ] || why="0 stopped" # it was asked to, and ended before it could say so: the job's end tells why
            settle "$one/exit" "$why" ||
                untold="$untold ${child%:*}:$code"
        }
        say "${child%:*}: $(first "$one/exit")"
        [ -n "${told-}${leaving-}" ] || [ -e "$dir/release" ] || [ -e "$one/stop" ] || note_end "${child%:*}"
    done
    children=$remaining
    remaining=
    for child in $untold; do
        one=$dir/services/${child%:*}
        [ -e "$one/exit" ] || put "$one/exit" "${child#*:} the wrapper ended with exit code ${child#*:}" || remaining="$remaining $child"
    done
    untold=$remaining
}
