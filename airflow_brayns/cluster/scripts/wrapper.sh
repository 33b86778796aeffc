# The wrapper looks after one service on one node.
# Shared: service service_dir service_pid wrapper_pid node keeper_pid leave background login.

stop_service() { # all that is left of it ends, in whatever session: it is asked to, and after five seconds made to
    local tries one
    kill -TERM "-$service_pid" 2>/dev/null || kill -TERM "$service_pid" 2>/dev/null
    for one in $(service_pids); do
        [ "$(stat_of "$one" 3)" = "$service_pid" ] || kill -TERM "$one" 2>/dev/null
    done
    tries=0
    while [ "$tries" -lt 25 ] && [ -n "$(service_pids)" ]; do
        nap 0.2
        tries=$((tries + 1))
    done
    for one in $(service_pids); do kill -KILL "$one" 2>/dev/null; done
}

fail_service() { # fail_service CODE TEXT
    settle_or_end "$service_dir/exit" "$1 $2" 15 2
}

wrap() {
    local strange command beat beat_at looked_at bytes_at code time heard moved
    service=$1
    keeper_pid=$2
    own=${SLURM_JOB_ID:-$keeper_pid}
    service_dir=$dir/services/$service
    node=$(first "$service_dir/node")
    reserve "$service_dir/exit"
    prove_tls || fail_service 94 "$dir/tls $unproved"
    leave=
    command=$service_dir/command
    if [ "$shared" = yes ] && [ -r "$command" ]; then # others may exchange the folder: what was opened is proved and run
        exec 9<"$command"
        command=/dev/fd/9
    fi
    read_service "$service" "$command" || fail_service 94 "the command of $service_dir $unproved"
    wrapper_pid=$$
    login=-l
    trap 'leave=signal' TERM INT HUP
    choose_port
    start_service "$command"
    beat=
    beat_at=$(now)
    looked_at=$beat_at
    bytes_at=0
    passed_over=
    unheld=0
    strange=0
    while :; do
        if ! kill -0 "$service_pid" 2>/dev/null; then
            wait "$service_pid"
            code=$?
            if ! never_began; then
                [ "$code" -ne 0 ] || [ -z "$patterns" ] || ! goes_on || continue
            fi
            stop_service # what it left
            ! without_start_files || {
                start_service "$command"
                continue
            }
            ! lost_the_port || ! next_port || {
                start_service "$command"
                continue
            }
            [ "$code" -ne 127 ] || [ -z "$background" ] || code=1 # not a child of this shell
            fail_service "$code" "the service ended with exit code $code"
        fi
        ls "$service_dir" >/dev/null 2>&1
        if is_exchanged; then strange=$((strange + 1)); else strange=0; fi # one look may be a file system's hiccup
        # `ended` is told by others where nobody was left to stop this one: keeper and slurmstepd were killed.
        if [ -e "$service_dir/stop" ] || [ -e "$dir/ended" ] || [ -n "$leave" ] || [ "$strange" -ge 2 ]; then
            stop_service
            fail_service 0 "stopped"
        fi
        if [ "$scheduler" = local ] && ! kill -0 "$keeper_pid" 2>/dev/null; then
            stop_service
            fail_service 1 "the keeper has gone"
        fi
        time=$(now)
        if [ "$time" -lt "$looked_at" ] || [ $((time - looked_at)) -ge 30 ]; then
            beat_at=$time # we were suspended ourselves, or the clock was set: no sign of anything
            bytes_at=0
        fi
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
            check_listening || start_service "$command"
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
