# Nodes run a copy of ffmpeg: one that others may have exchanged, or that was cut off, is not run.
# Set above: ffmpeg; and proved, what this told of it before (empty where it did not).
# Shared: ffmpeg proved.

prove_ffmpeg() { # opens the copy and sets ffmpeg to what was opened, if that is what its name says; one of this machine's own is run as it is
    local digest seen
    digest=${ffmpeg##*-}
    case $digest in
    *[!0-9a-f]*) return 0 ;;
    ????????????) ;;
    *) return 0 ;;
    esac
    [ -f "$ffmpeg" ] && [ -r "$ffmpeg" ] || return 1
    exec 7<"$ffmpeg"
    [ -O /proc/self/fd/7 ] || return 1
    seen=$(stat -L -c '%i %Z %s' /proc/self/fd/7) # whoever writes to it, or puts another one in its place, changes one of these
    if [ -z "$seen" ] || [ "$seen" != "$proved" ]; then
        case $(sha256sum </proc/self/fd/7) in "$digest"*) ;; *) return 1 ;; esac
        proved=$seen
    fi
    if may_run "${ffmpeg%/*}"; then ffmpeg=/proc/self/fd/7; else run_elsewhere; fi
}

may_run() { # may_run FOLDER: whether what lies there may be executed; on a file system that is mounted noexec it may not
    local probe code
    probe=$1/.run.$$
    { printf '#!/bin/sh\n' >"$probe"; } 2>/dev/null && chmod 700 "$probe" || return 0
    "$probe" >/dev/null 2>&1 </dev/null
    code=$?
    rm -f "$probe"
    [ "$code" -ne 126 ]
}

run_elsewhere() { # what was proved is run from a place of the node's own; fails with 2 where there is none
    local place copy
    for place in "${TMPDIR:-/tmp}" /dev/shm /var/tmp; do
        may_run "$place" || continue
        copy=$(mktemp "$place/airflow-brayns.XXXXXX" 2>/dev/null) || continue
        if cat /proc/self/fd/7 >"$copy" 2>/dev/null && chmod 700 "$copy"; then
            exec 7<"$copy"
            rm -f "$copy"
            ffmpeg=/proc/self/fd/7
            return 0
        fi
        rm -f "$copy"
    done
    return 2
}
