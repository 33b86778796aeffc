# These functions give nodes back.
# Shared: booking.

release() { # release NAME N SECONDS: `release` file, the keeper's grace, then the job's end; already gone is success
    local dir deadline last hurried asked_at job state over
    folder_of "$1" "$2"
    dir=$folder
    [ -d "$dir" ] || {
        printf 'released %s %s gone\n' "$1" "$2"
        return
    }
    deadline=$(($(now) + $3))
    last=$((deadline + 20))
    hurried=
    over=
    put "$dir/release" "$(now)" || [ -e "$dir/release" ] || deadline=0 # who cannot be told is ended
    while :; do
        job=$(find_job "$dir") || {
            printf 'silent %s\n' "$(coded <"$errors")"
            return
        }
        state=$(printf '%s' "$job" | cut -d'|' -f2)
        if [ -z "$job" ] || [ -n "$over" ] || is_over "$state"; then
            if [ -e "$dir/job" ] || [ -e "$dir/claim" ] || [ -e "$dir/ended" ] || [ "$(age_of "$dir/attempt")" -gt 60 ]; then
                rm -f "$dir/tls/key.pem"
                [ -e "$dir/ended" ] || put "$dir/ended" "released"
                printf 'released %s %s done\n' "$1" "$2"
            else # its submission may still arrive; the keeper will find `release` and exit at once
                printf 'released %s %s announced\n' "$1" "$2"
            fi
            return
        fi
        # Slurm has the end; an epilog may take its time, with which nobody's use has to do. Usually it is a moment.
        case $state in
        COMPLETING | STAGE_OUT)
            [ ! -e "$dir/ended" ] || [ "$deadline" -le $(($(now) + 2)) ] || deadline=$(($(now) + 2))
            if [ "$(now)" -ge "$deadline" ]; then
                rm -f "$dir/tls/key.pem"
                [ -e "$dir/ended" ] || put "$dir/ended" "released"
                printf 'released %s %s completing\n' "$1" "$2"
                return
            fi
            ;;
        esac
        if [ "$(now)" -ge "$deadline" ] || [ "$state" = PENDING ]; then
            if [ "$hurried" != hard ] || [ $(($(now) - asked_at)) -ge 3 ]; then # again: it is asked for by a request that may fail, too
                [ "$hurried" != hard ] || ! is_over_by_now "${job%%|*}" || over=yes
                end_job "$dir" hard
                hurried=hard
                asked_at=$(now)
            fi
        elif [ -z "$hurried" ]; then
            end_job "$dir" soft
            hurried=soft
        fi
        if [ "$(now)" -ge "$last" ]; then
            printf 'released %s %s %s\n' "$1" "$2" "still $state"
            return
        fi
        sleep 0.2 2>/dev/null || sleep 1
    done
}

reap() { # reap NAME N OWNER SECONDS: give one incarnation back, unless somebody has taken it over since it was looked at
    if [ -n "$3" ] && [ ! -e "$state_dir/$1/$2/owner.$3" ]; then
        printf 'taken %s %s\n' "$1" "$2"
    else
        release "$1" "$2" "$4"
    fi
}

end_named() { # end_named ID NAME: a job of ours that has no folder, or one that has ended; not one submitted since it was looked at
    local folder
    folder=$state_dir/${2%-*}/${2##*-}
    if [ -d "$folder" ] && [ ! -e "$folder/ended" ]; then
        printf 'taken %s\n' "$2"
    elif [ "$scheduler" = slurm ] && [ -n "$1" ]; then
        at_most 20 scancel --name="$2" "$1"
    fi
}

cancel() { # cancel NAME N TOKEN: only its owner may; quick, since a killed task has four seconds
    local dir
    dir=$state_dir/$1/$2
    # Where nothing can be renamed it is still its owner's.
    if [ -d "$dir" ] && { mv "$dir/owner.$3" "$dir/cancelled" 2>/dev/null || [ -e "$dir/owner.$3" ]; }; then
        put "$dir/release" "$(now)"
        end_job "$dir" hard
        rm -f "$dir/tls/key.pem"
        printf 'cancelled %s %s\n' "$1" "$2"
    else
        printf 'kept %s %s\n' "$1" "$2"
    fi
}

cancel_all() { # cancel_all NAME TOKEN: all that TOKEN owns under names that begin so; a submission under way is awaited
    local tries folder owner_name
    tries=0
    while :; do
        for folder in "$state_dir/$1"*/[0-9]*/; do
            folder=${folder%/}
            [ -e "$folder/owner.$2" ] && [ ! -e "$folder/ended" ] || continue
            ! is_foreign "$folder" || continue
            owner_name=${folder%/*}
            cancel "${owner_name##*/}" "${folder##*/}" "$2"
        done
        set -- "$1" "$2" "$state_dir/$1"*/.lock
        [ -e "$3" ] && [ "$tries" -lt 15 ] || break
        set -- "$1" "$2"
        tries=$((tries + 1))
        sleep 0.2 2>/dev/null || sleep 1
    done
}

# shellcheck disable=SC2231 # a pattern, made by us
release_all() { # release_all NAME SECONDS: every incarnation of all names that begin so; all are told before any is awaited
    local one ended queued owner_name
    booking_of "$1"
    [ ${#1} -ge 15 ] || booking="$booking*"
    ended=
    for one in "$state_dir/$1"*/[0-9]*/ "$state_dir"/.ab-finished/*/$booking/"$1"*/[0-9]*/; do
        one=${one%/}
        [ -d "$one" ] || continue
        if [ -e "$one/ended" ]; then
            ended=yes
        elif is_foreign "$one"; then
            printf 'foreign %s\n' "$theirs"
            continue
        fi
        printf 'found %s\n' "$one"
        [ -e "$one/release" ] || give_up "$one"
    done
    # Once for all: a controller that does not answer takes its time each time.
    [ -n "$ended" ] && [ "$scheduler" = slurm ] && queued=$(jobs_of) || queued=
    for one in "$state_dir/$1"*/[0-9]*/ "$state_dir"/.ab-finished/*/$booking/"$1"*/[0-9]*/; do
        one=${one%/}
        [ -d "$one" ] || continue
        ! is_foreign "$one" || continue
        [ ! -e "$one/ended" ] || still_holds "$one" || continue
        owner_name=${one%/*}
        release "${owner_name##*/}" "${one##*/}" "$2"
    done
    printf 'asked\n'
}

still_holds() { # still_holds DIR: its keeper has ended, and Slurm was not told: who tells it (slurmstepd) was killed
    local name
    name=$(basename "$(dirname "$1")")-$(basename "$1")
    holds_nodes "$(printf '%s\n' "$queued" | awk -F'|' -v name="$name" 'NF > 8 && $(NF - 3) == name { state = $2 } END { print state }')"
}
