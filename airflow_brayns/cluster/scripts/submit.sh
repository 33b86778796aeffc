# A request is submitted exactly once.
# Set above: keeper keeper_length asked about refusals; and the functions services and secrets, which fill $dir, and request, which calls sbatch.
lost_answers='timed out|unable to contact|connection|communication|zero bytes|receive|temporarily'

submit() { # submit NAME TOKEN AFTER: AFTER is the incarnation that a follow-up is for, which goes on; 0 for none
    local n dir
    mkdir -p "$state_dir" 2>/dev/null && [ -w "$state_dir" ] || {
        no_room "$state_dir"
        return
    }
    check_folder || return 0
    sweep
    locked "$1" || {
        if [ -d "$state_dir/$1/.lock" ]; then
            printf 'busy another command is submitting %s\n' "$1"
        else
            no_room "$state_dir"
        fi
        return
    }
    n=$(latest "$1")
    [ "$n" -le "$3" ] || ! adopt "$1" "$2" "$3" "$n" || return 0
    [ "$3" -ne 0 ] || end_earlier "$1" $((n + 1)) # whatever comes of them now, they must not start
    n=$((n + 1))
    dir=$state_dir/$1/$n
    # Before anything starts: what is not whole, or has no room for what a keeper writes, is taken away again.
    write_down "$2" || {
        rm -rf "$dir"
        no_room "$state_dir"
        return
    }
    [ "$3" -ne 0 ] || await_earlier "$1" "$n"
    if ! { refresh "$dir/lease" "$(now)" && put "$dir/attempt" "$(now)" && [ "$(wc -c <"$dir/keeper.sh")" -eq "$keeper_length" ]; }; then
        rm -rf "$dir"
        no_room "$state_dir"
        return
    fi
    if [ "$scheduler" = local ]; then start_here "$n"; else ask_slurm "$1" "$n"; fi
}

sweep() { # it removes what is old and has our names: the folder may hold other things too
    local old
    find "$state_dir" -mindepth 3 -maxdepth 3 -path "$state_dir/ab-*/[0-9]*/ended" -mtime +7 2>/dev/null |
        while read -r old; do rm -rf "${old%/ended}"; done
    find "${TMPDIR:-/tmp}" "$state_dir" -mindepth 1 -maxdepth 1 -type d -name 'airflow-brayns.*' -user "$(id -un)" -mmin +120 \
        -exec rm -rf {} + 2>/dev/null # of commands that were killed
    find "$state_dir" -mindepth 1 -maxdepth 1 -type d -name 'ab-*' -mtime +7 -empty -exec rmdir {} + 2>/dev/null
}

adopt() { # adopt NAME TOKEN AFTER N: answers where N is what is asked for, or may be, or is another's; fails where a new one is needed
    local dir end job state
    dir=$state_dir/$1/$4
    for end in release ending ended cancelled; do [ ! -e "$dir/$end" ] || return 1; done
    job=$(find_job "$dir") || {
        printf 'unsure %s\n' "$(coded <"$errors")"
        return 0
    }
    state=$(printf '%s' "$job" | cut -d'|' -f2)
    if [ -n "$job" ] && holds_nodes "$state"; then
        if is_foreign "$dir"; then
            printf 'foreign %s\n' "$theirs"
            return 0
        fi
        [ "$(first "$dir/asked")" = "$asked" ] || return 1
        [ -e "$dir/job" ] || put "$dir/job" "$(printf '%s' "$job" | awk -F'|' '{ print $1, $7 }')"
        refresh "$dir/lease" "$(now)"
        take_over "$dir" "$2" || return 1
        [ "$3" -ne 0 ] || end_earlier "$1" "$4"
        report_job "$dir" "$4" 1
    elif [ -z "$job" ] && [ ! -e "$dir/job" ] && [ "$(age_of "$dir/attempt")" -lt 60 ]; then
        printf 'unsure %s\n' "$(printf 'a submission whose answer was lost may still arrive' | coded)"
    else
        return 1
    fi
}

write_down() { # write_down TOKEN: all that keeper and services need, into $dir
    mkdir -p "$dir/services" 2>/dev/null && write "$dir/keeper.sh" "$keeper_length" "$keeper" && put "$dir/about" "$about" &&
        put "$dir/asked" "$asked" && make "$dir/owner.$1" && services && secrets && put "$dir/lease" "$(now)" && has_room "$dir"
}

start_here() { # start_here N: the keeper runs on this machine
    local apart
    apart=setsid
    command -v setsid >/dev/null 2>&1 || apart=
    # shellcheck disable=SC2086 # no word where there is none
    without_ours 0 $apart sh "$dir/keeper.sh" "$dir" </dev/null >"$dir/keeper.log" 2>&1 &
    put "$dir/job" "$! $(process_started $!)" || {
        kill -TERM $! 2>/dev/null # else it would be one that nobody knows of
        put "$dir/release" "$(now)"
        no_room "$state_dir"
        return
    }
    report_job "$dir" "$1" 0
}

ask_slurm() { # ask_slurm NAME N: what sbatch prints is the site's; whether the job is there, and its id, its name tells
    local said code why job id submitted found
    said=$(request "$1-$2" "$dir" 2>"$errors")
    code=$?
    why=$({ [ "$code" -eq 0 ] || printf '%s\n' "$said"; } | cat "$errors" -)
    found=
    job=$(find_job "$dir") && found=answered
    if [ -n "$job" ]; then
        id=${job%%|*}
        submitted=$(printf '%s\n' "$job" | awk -F'|' '{ print $(NF - 2) }')
    elif [ "$code" -ne 0 ] || ! id=$(told_id "$said"); then
        not_taken "$code" "$why" "$found"
        return
    fi
    put "$dir/job" "$id ${submitted-}" || {
        at_most 20 scancel --name="$1-$2" "$id" >/dev/null
        put "$dir/release" "$(now)"
        no_room "$state_dir"
        return
    }
    [ ! -e "$dir/release" ] || end_job "$dir" hard # given back while sbatch was at work
    report_job "$dir" "$2" 0
}

told_id() { # told_id OUTPUT: the one id that sbatch prints, in one of its own forms, among what the site's wrapper does
    printf '%s\n' "$1" | plain | sed -n 's/^ *\(Submitted batch job \)\{0,1\}\([0-9][0-9]*\)\(;[^ ]*\)\{0,1\}\( on cluster .*\)\{0,1\} *$/\2/p' |
        awk '!seen[$0]++ { id = $0; ids++ } END { if (ids != 1) exit 1; print id }'
}

not_taken() { # not_taken CODE WHY ANSWERED: only what is known for a refusal is one; anything else may pass by itself
    if [ "$1" -eq 127 ] || printf '%s\n' "$2" | grep -qiE -e "$refusals"; then
        put "$dir/release" "$(now)"
        put "$dir/ended" "refused"
        printf 'refused %s %s\n' "$1" "$(printf '%s' "$2" | coded)"
        return
    fi
    # An answer that was lost may be of a job that still arrives; in its folder it finds that it is not wanted any more.
    if [ "$1" -ne 0 ] && [ "$1" -lt 124 ] && [ -n "$3" ] && ! printf '%s\n' "$2" | grep -qiE "$lost_answers"; then
        put "$dir/release" "$(now)"
        put "$dir/ended" "not taken"
    fi
    printf 'unsure %s\n' "$(printf '%s' "${2:-sbatch told no job, with exit code $1}" | coded)"
}
