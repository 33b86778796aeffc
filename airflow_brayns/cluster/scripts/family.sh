# A service's processes are found here: it may start some in sessions of their own (setsid, podman, a daemon), and end before them.
# Set above: dir. Shared: service service_pid wrapper_pid own.

# Everything in the service's session, what was left to its wrapper (which is a subreaper on this machine), what MORE names, and all
# that comes from these, in whatever session.
family_pids() { # family_pids PID "MORE"
    cat /proc/[0-9]*/stat 2>/dev/null | awk -v session="$1" -v more=" $2 " -v wrapper="${wrapper_pid-0}" '
        { pid = $1; sub(/^.*\) /, ""); if ($1 == "Z") next; parent[pid] = $2; of[pid] = $4 }
        END {
            if (session in parent) wrapper = parent[session]
            for (pid in parent)
                if (of[pid] == session || pid == session || index(more, " " pid " ") ||
                    (wrapper > 1 && parent[pid] == wrapper && of[pid] != of[wrapper])) ours[pid] = 1
            do {
                found = 0
                for (pid in parent) if (!(pid in ours) && (parent[pid] in ours)) { ours[pid] = 1; found = 1 }
            } while (found)
            for (pid in ours) print pid
        }'
}

is_marked() { # is_marked PID: its environment names this service, and no other job that had a folder of the same name
    local marks
    [ -O "/proc/$1" ] || return 1
    marks=$(tr '\0' '\n' <"/proc/$1/environ" 2>/dev/null | grep '^AB_')
    [ "$(printf '%s\n' "$marks" | grep -cxF -e "AB_FOLDER=$dir" -e "AB_SERVICE=$service")" = 2 ] || return 1
    [ -z "${own-}" ] || ! printf '%s\n' "$marks" | grep '^AB_JOB=' | grep -qvxF "AB_JOB=$own"
}

marked_pids() { # every process that is marked, though its parents have gone
    local one
    grep -lF "AB_FOLDER=$dir" /proc/[0-9]*/environ 2>/dev/null | while IFS=/ read -r _ _ one _; do
        ! is_marked "$one" || printf '%s ' "$one"
    done
}

bears_our_mark() { # bears_our_mark PID: started by this service, though its parents have gone; or of the same step of the job
    is_marked "$1" && return 0
    [ -O "/proc/$1" ] || return 1
    case $(cat /proc/self/cgroup 2>/dev/null) in
    */step_[0-9]*) [ "$(cat "/proc/$1/cgroup" 2>/dev/null)" = "$(cat /proc/self/cgroup)" ] ;;
    *) return 1 ;;
    esac
}

stat_of() { # stat_of PID NUMBER: 2 its parent, 3 its group, 4 its session
    sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | awk -v number="$2" '{ print $number }'
}

comes_from_us() { # comes_from_us PID: it, or one that it comes from, bears our mark: a container's own have another environment
    local one
    one=$1
    while [ "${one:-1}" -gt 1 ]; do
        bears_our_mark "$one" && return 0
        one=$(stat_of "$one" 2)
    done
    return 1
}

service_pids() { # all that is left of the service
    family_pids "$service_pid" "$(marked_pids)"
}

heir() { # it tells who goes on in the background, in a session of its own, after the service's first process ended with success
    local one
    for one in $(service_pids); do
        # What the account's start files have started (an agent) is not it.
        ! is_marked "$one" || grep -qF "AB_BEGUN=yes" "/proc/$one/environ" 2>/dev/null || continue
        [ "$(stat_of "$one" 4)" = "$one" ] && [ "$one" != "$service_pid" ] && printf '%s' "$one" && return 0
    done
    return 1
}

