# A job of ours is found, and ended.
lost_answers='timed out|unable to contact|connection|communication|zero bytes|receive|temporarily'

find_job() { # find_job DIR: the line of the job of one allocation; fails when the scheduler does not answer
    local name answer
    name=$(basename "$(dirname "$1")")-$(basename "$1")
    answer=$(jobs_of "$1") || return 1
    # The latest: names are given out again where a folder was deleted. A comment may hold a bar.
    printf '%s\n' "$answer" | awk -F'|' -v name="$name" 'NF > 8 && $(NF - 3) == name && $(NF - 2) >= latest { latest = $(NF - 2); line = $0 } END { print line }'
}

is_new() { # is_new DIR: it was submitted so lately that squeue's listing may be one of before, which sites keep for a minute
    [ ! -e "$1/ended" ] && [ "$(age_of "$1/attempt")" -lt 75 ]
}

find_new_job() { # find_new_job DIR: as find_job; of a job that may not be listed yet slurmctld itself is asked
    local line
    line=$(find_job "$1") || return 1
    if [ -z "$line" ] && [ "$scheduler" = slurm ] && [ -e "$1/job" ] && is_new "$1"; then
        line=$(told_job "$1") || {
            printf 'job %s is new, and may not be listed yet' "$(first "$1/job")" >"$errors"
            return 1
        }
    fi
    printf '%s' "$line"
}

told_job() { # told_job DIR: the line of its job, as slurmctld itself tells it; empty where that knows none; fails without an answer
    local id told
    id=$(first "$1/job")
    id=${id%% *}
    [ "$scheduler" = slurm ] && [ -n "$id" ] || return 1
    told=$(at_most 10 scontrol -o show job "$id" 2>&1 | plain)
    case $told in
    *"JobId=$id "*JobState=*) ;;
    *'Invalid job id'*) return 0 ;;
    *) return 1 ;;
    esac
    # The first of a name counts: a comment may say anything. Ids are given out again, names are not.
    printf '%s\n' "$told" | tr ' ' '\n' | awk -F= -v id="$id" -v name="$(basename "$(dirname "$1")")-$(basename "$1")" '
        function seconds(time, part, n, i, all) {
            if (time !~ /^([0-9]+-)?[0-9]+(:[0-9]+)+$/) return -1
            n = split(time, part, /[-:]/)
            for (i = n; i > 0; i--) all += part[i] * (i == n ? 1 : i == n - 1 ? 60 : i == n - 2 ? 3600 : 86400)
            return all
        }
        !($1 in told) { told[$1] = $2 }
        END {
            if (told["JobName"] != name) exit
            limit = seconds(told["TimeLimit"])
            left = limit - seconds(told["RunTime"])
            if (left < 0) left = 0
            print id "|" told["JobState"] "|||" "|" name "|" told["SubmitTime"] "||" (limit < 0 ? told["TimeLimit"] : int(left / 60) ":" left % 60)
        }'
}

end_job() { # end_job DIR soft|hard: ask the keeper to look, or end the job; by name too, since ids are given out again
    local id name
    # A job without a keeper has nobody to ask, and scancel tries for long to signal one that is pending.
    [ "$2" = hard ] || [ -d "$1/claim" ] || return 0
    id=$(first "$1/job")
    if [ "$scheduler" = slurm ]; then
        name=$(basename "$(dirname "$1")")-$(basename "$1")
        # shellcheck disable=SC2086 # no id yet is no word
        if [ "$2" = soft ]; then
            at_most 5 scancel --batch --signal=USR1 --name="$name" ${id%% *} >/dev/null
        else
            at_most 20 scancel --name="$name" ${id%% *} >/dev/null
            return
        fi
    elif [ -n "$id" ] && [ "$(process_started "${id%% *}")" = "${id#* }" ]; then
        if [ "$2" = soft ]; then kill -USR1 "${id%% *}" 2>/dev/null; else kill -TERM "${id%% *}" 2>/dev/null; fi
    fi
    return 0
}

give_up() { # give_up DIR: the keeper is asked where there is one; a job that has not started, or cannot be told, is ended at once
    local how
    if put "$1/release" "$(now)" && [ -d "$1/claim" ]; then how=soft; else how=hard; fi
    [ -e "$1/ended" ] || end_job "$1" "$how"
}

is_over() { # is_over STATE
    case $1 in
    PENDING | CONFIGURING | RUNNING | COMPLETING | STAGE_OUT | SUSPENDED | STOPPED | SIGNALING | RESIZING | REQUEUE*) return 1 ;;
    RESV_DEL_HOLD | SPECIAL_EXIT) return 1 ;; # held in the queue
    *) return 0 ;;
    esac
}

holds_nodes() { # holds_nodes STATE: it has nodes, or will have; what is completing is as good as gone
    case $1 in
    PENDING | CONFIGURING | RUNNING | SUSPENDED | REQUEUE*) return 0 ;;
    *) return 1 ;;
    esac
}

queued() { # how many jobs of this user, ours or not, wait or run
    at_most 20 squeue -h -u "$(id -un)" -o '
job %i' 2>/dev/null | plain | grep -c '^job [0-9]'
}

is_over_by_now() { # is_over_by_now ID: squeue's listing may be an old one, which sites keep for a minute; scontrol asks slurmctld itself
    local told
    [ "$scheduler" = slurm ] || return 1
    told=$(at_most 10 scontrol -o show job "$1" 2>&1 | plain)
    case $told in
    *'Invalid job id'*) return 0 ;;
    *JobState=*)
        told=${told#*JobState=}
        is_over "${told%%[ +]*}"
        ;;
    *) return 1 ;;
    esac
}
