# The keeper holds an allocation, starts services in it, and ends it when told to or when nobody uses it.
# Shared: told woken time_limit leaving.

in_use() { # it prints what changes when somebody uses the allocation
    cat "$dir/lease" "$dir"/services/*/bytes 2>/dev/null
}

end() { # end TEXT: it stops the services, says why, and ends the job
    local unstopped child patience tries
    trap '' TERM INT HUP USR1
    say "ending: $1"
    ! is_exchanged || exit 1
    note_silent
    leaving=yes
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
    settle_or_end "$dir/ended" "$1" 5 1
}

node_names() { # scontrol tells them, among what a site's wrapper tells; where that is not enough, the list itself does
    local told
    told=$(scontrol show hostnames "$SLURM_JOB_NODELIST" 2>/dev/null | plain | grep -x '[A-Za-z0-9._-]*[A-Za-z0-9]')
    if [ "$(printf '%s\n' "$told" | wc -l)" -ne "${SLURM_JOB_NUM_NODES:-$(printf '%s\n' "$told" | wc -l)}" ] || [ -z "$told" ]; then
        told=$({
            printf '%s\n' "$told"
            printf '%s\n' "$SLURM_JOB_NODELIST" | tr ',' '\n'
        } | awk -v list=",$SLURM_JOB_NODELIST" '
            $0 ~ /[][]/ || $0 == "" || seen[$0]++ { next }
            { stem = $0; sub(/[0-9].*$/, "", stem) } index(list, "," (stem == "" ? $0 : stem))')
    fi
    printf '%s\n' "$told" | tr '\n' ' '
}

is_raised() { # where there is no Slurm: somebody has put another time limit into the folder; sets time_limit
    local wished
    wished=$(first "$dir/limit")
    case $wished in "" | *[!0-9]* | "$time_limit") return 1 ;; esac
    time_limit=$wished
}

put_or_end() { # put_or_end FILE LINE: without it nobody can use the allocation; a folder that is full for a moment is waited for
    local tries
    tries=0
    until put "$1" "$2"; do
        tries=$((tries + 1))
        [ "$tries" -lt 8 ] && [ -z "$told" ] && [ ! -e "$dir/release" ] || end "$full"
        nap 2
    done
}

keep() {
    local began used_at looked_at jump usage beat lease time latest awaited one
    woken= # before `claim`, from which on it is told to look by a signal, which ends a shell that knows none
    told=
    trap 'woken=yes' USR1
    trap 'told="told to end: the time limit is near, or somebody cancelled the job"' TERM INT HUP
    ls "$dir" >/dev/null 2>&1 # a network file system shows a new name only after the folder was read
    [ ! -e "$dir/release" ] || {
        put "$dir/ended" "released before it started"
        exit 0
    }
    mkdir "$dir/claim" 2>/dev/null || {
        [ -d "$dir" ] || { # nothing can be told there; the wait reads that from its silence
            say "$(uname -n) does not see $dir: state_dir must be on a file system that login node and nodes share"
            exit 1
        }
        [ -d "$dir/claim" ] || {
            say "$full"
            settle "$dir/ended" "$full"
            exit 1
        }
        say "another job holds this allocation; leaving it alone"
        exit 0
    }
    children=
    untold=
    self=$(digest <"$0")
    reserve "$dir/ending"
    reserve "$dir/ended"
    own=${SLURM_JOB_ID:-$$}
    put "$dir/claim/job" "$own"
    [ "$time_limit" = 0 ] || put "$dir/claim/ends" $(($(now) + time_limit))
    [ "$scheduler" != slurm ] || nodes=$(node_names)
    printf '%s\n' "$nodes" | tr -s ' ' '\n' >"$dir/nodes" 2>/dev/null
    began=$(now)
    used_at=$began looked_at=$began started_at=$began
    usage=$(in_use)
    beat=0
    ! lease=$(age_of "$dir/lease") || [ "$lease" -le "$idle_limit" ] ||
        end "nobody has waited for this allocation for $lease s"
    put_or_end "$dir/claim/nodes" "$nodes"
    while :; do
        beat=$((beat + 1))
        ls "$dir" "$dir/services" >/dev/null 2>&1
        # Deleted or exchanged under us: nobody can reach the services any more.
        [ -d "$dir" ] && [ -O "$dir" ] && ! is_exchanged || exit 1
        refresh "$dir/heartbeat" "$beat"
        [ -z "$told" ] || end "$told"
        [ ! -e "$dir/release" ] || end "released"
        start_services
        look_after_children
        time=$(now)
        jump=$((time - looked_at))
        looked_at=$time
        if [ "$jump" -lt 0 ] || [ "$jump" -ge 30 ]; then # the job was suspended, which is no idleness, or the clock was set
            used_at=$time
            started_at=$((started_at + jump))
            [ "$jump" -ge 0 ] || began=$((began + jump))
        fi
        [ "$time_limit" = 0 ] || ! is_raised || put "$dir/claim/ends" $((began + time_limit))
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
*) keep ;;
esac
