# An allocation is given more time: what it has left may do, or its limit is raised; else whoever asked has one follow on.

seconds_left() { # seconds_left LINE: of a job's line; nothing where it has no limit, or none is told
    printf '%s\n' "$1" | awk -F'|' '{ print $NF }' | tr -d ' ' | awk -F'[-:]' '
        !/^([0-9]+-)?([0-9]+:)?[0-9]+:[0-9]+$/ { next }
        { left = $NF + 60 * $(NF - 1); if (NF > 2) left += 3600 * $(NF - 2); if (NF > 3) left += 86400 * $(NF - 3); print left }'
}

raise_limit() { # raise_limit DIR LEFT SECONDS: so that SECONDS are left; it prints what the scheduler says of it
    local id total tries
    id=$(first "$1/job")
    if [ "$scheduler" = slurm ]; then # it counts in minutes; an increment, for the limit itself may be anybody's
        at_most 30 scontrol update "JobId=${id%% *}" "TimeLimit=+$((($3 - $2 + 59) / 60))" 2>&1
        return
    fi
    total=$(first "$1/limit")
    [ -n "$total" ] || total=$(sed -n "/^time_limit=/{s/[^0-9]//g;p;q;}" "$1/keeper.sh")
    put "$1/limit" "$((total + $3 - $2))" || {
        printf 'there is no room in %s' "$1"
        return 1
    }
    tries=0
    end_job "$1" soft # it looks sooner
    while [ "$tries" -lt 40 ] && [ "$(seconds_left "$(find_job "$1")")" -le "$2" ]; do # a keeper of before knows no such file
        tries=$((tries + 1))
        sleep 0.25 2>/dev/null || sleep 1
    done
}

keep_until() { # keep_until DIR UNTIL
    put "$1/until" "$2" || {
        printf 'full %s\n' "$state_dir"
        return 1
    }
}

extend() { # extend NAME SECONDS UNTIL: whoever keeps it reads UNTIL in its folder; what is asked for twice is done once
    local dir n job state left said code told
    n=$(newest "$1") || {
        printf 'over\n'
        return
    }
    dir=$state_dir/$1/$n
    if is_foreign "$dir"; then
        printf 'foreign %s\n' "$theirs"
        return
    fi
    locked "$1" || {
        printf 'silent %s\n' "$(printf 'another command is at work on %s' "$1" | coded)"
        return
    }
    # squeue's listing may be a minute old: it counts only where slurmctld itself does not answer, which is then not asked again.
    told=yes
    job=$(told_job "$dir") || { told= && job=$(find_job "$dir"); } || {
        printf 'silent %s\n' "$(coded <"$errors")"
        return
    }
    if [ -z "$job" ] && [ "$scheduler" = slurm ] && is_new "$dir"; then
        printf 'silent %s\n' "$(printf 'the job of %s is new, and may not be listed yet' "$1-$n" | coded)"
        return
    fi
    state=$(printf '%s' "$job" | cut -d'|' -f2)
    printf 'newest %s %s\n' "$n" "$(first "$dir/job")"
    case $state in
    RUNNING | SUSPENDED | STOPPED | SIGNALING | RESIZING) ;;
    PENDING | CONFIGURING | REQUEUE*)
        printf 'waits\n'
        return
        ;;
    *)
        printf 'over\n'
        return
        ;;
    esac
    left=$(seconds_left "$job")
    if [ -z "$left" ] || [ "$left" -ge "$2" ]; then
        ! keep_until "$dir" "$3" || printf 'room\n'
        return
    fi
    said=$(raise_limit "$dir" "$left" "$2")
    code=$?
    # Whether it has, its time tells: a site's wrapper may say anything. Who does not answer may have done it.
    job=$([ -z "$told" ] || told_job "$dir") && [ -n "$told" ] || { told= && job=$(find_job "$dir"); } && [ -n "$job" ] || {
        printf 'silent %s\n' "$(coded <"$errors")"
        return
    }
    left=$(seconds_left "$job")
    if [ -z "$left" ] || [ "$left" -ge $(($2 - 60)) ]; then
        ! keep_until "$dir" "$3" || printf 'raised\n'
    elif [ "$code" -ge 124 ] || [ "$scheduler $code$said$told" = "slurm 0" ] || printf '%s\n' "$said" | grep -qiE "$lost_answers"; then
        printf 'silent %s\n' "$(printf '%s' "$said" | coded)"
    else
        printf 'refused %s %s\n' "$code" "$(printf '%s\n' "$said" | plain | coded)"
    fi
}
