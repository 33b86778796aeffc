# sbatch is asked for a job; what it prints is the site's.
# Set above: refusals slurms_own unspecified; and the function request, which calls sbatch.
# Shared: avoid.
avoid=

ask_slurm() { # ask_slurm NAME N AFTER: what sbatch prints is the site's; whether the job is there, and its id, its name tells
    local said code why job id submitted found
    said=$(request "$1-$2" "$dir" 2>"$errors")
    code=$?
    why=$(printf '%s\n' "$said" | cat "$errors" -)
    found=
    job=$(find_job "$dir") && found=answered
    id=$(told_id "$said")
    # A wrapper's own exit code is not sbatch's: slurmctld itself knows the id, where squeue's listing may be one of before.
    if [ -z "$job" ] && [ -n "$id" ] && { [ "$code" -ne 0 ] || is_sure "$why"; }; then
        put "$dir/job" "$id" && job=$(told_job "$dir") && id=${job%%|*} # else the number is a greeting's
        [ -n "$job" ] || rm -f "$dir/job"
    fi
    if [ -n "$avoid" ] && [ -n "$found" ] && [ -z "$job$id" ] && was_refused "$code" "$why" "$found"; then
        avoid= # the others are perhaps not enough
        ask_slurm "$1" "$2" "$3"
        return
    fi
    if [ -n "$job" ]; then
        id=${job%%|*}
        submitted=$(printf '%s\n' "$job" | awk -F'|' '{ print $(NF - 2) }')
    elif [ "$code" -ne 0 ] || [ -z "$id" ]; then
        not_taken "$code" "$why" "$found" "$3" "$id"
        return
    fi
    put "$dir/job" "$id ${submitted-}" || {
        at_most 20 scancel --name="$1-$2" "$id" >/dev/null
        put "$dir/release" "$(now)"
        no_room "$state_dir"
        return
    }
    [ ! -e "$dir/release" ] || end_job "$dir" hard # given back while sbatch was at work
    [ -z "$avoid" ] || printf 'avoided %s\n' "$avoid"
    report_job "$dir" "$2" 0
}

told_id() { # told_id OUTPUT: the one id that sbatch prints, in one of its own forms, among what the site's wrapper does
    printf '%s\n' "$1" | plain | sed -n 's/^ *\(Submitted batch job \)\{0,1\}\([0-9][0-9]*\)\(;[^ ]*\)\{0,1\}\( on cluster .*\)\{0,1\} *$/\2/p' |
        awk '!seen[$0]++ { id = $0; ids++ } END { if (ids != 1) exit 1; print id }'
}

why_refused() { # why_refused TEXT: what Slurm itself says of it; all that was said, where no line is Slurm's own
    local pattern found
    found=$(printf '%s\n' "$slurms_own" | while IFS= read -r pattern; do
        printf '%s\n' "$1" | grep -iE -e "$pattern" | grep -viF -e "$unspecified" && break
    done)
    printf '%s\n' "${found:-$1}"
}

is_sure() { # is_sure TEXT: there are errors of Slurm's own
    printf '%s\n' "$1" | grep -qiE -e "$(printf '%s\n' "$slurms_own" | sed '$d')" # a pattern each line, but for the last
}

is_refused() { # is_refused TEXT: of words that are a site's own, a line is one only where it begins as Slurm's; and none beside a lost answer
    local begin
    begin=
    is_sure "$1" || {
        ! printf '%s\n' "$1" | grep -qiE "$lost_answers" || return 1
        printf '%s\n' "$1" | grep -qiE -e "${slurms_own##*
}" || begin='^(.*(error|fatal): *)?'
    }
    why_refused "$1" | grep -qiE -e "$begin($refusals)"
}

was_refused() { # was_refused CODE TEXT ANSWERED: a wrapper may swallow the exit code; then the queue was seen without the job, too
    [ "$1" -ne 0 ] || { [ -n "$3" ] && is_sure "$2"; } || return 1
    is_refused "$2"
}

give_way() { # give_way AFTER WHY: nothing follows on AFTER; that is told before the end, which nobody is to take for the end of both
    [ "$1" -eq 0 ] || { folder_of "$(basename "${dir%/*}")" "$1" && rm -f "$folder/next"; }
    put "$dir/release" "$(now)"
    put "$dir/ended" "$2"
}

not_taken() { # not_taken CODE WHY ANSWERED AFTER ID: only what is known for a refusal is one; anything else may pass by itself
    if { [ "$1" -eq 127 ] && [ -z "$5" ] && ! is_sure "$2"; } || was_refused "$1" "$2" "$3"; then
        give_way "$4" "refused"
        printf 'refused %s %s\nqueued %s\n' "$1" "$(printf '%s' "$2" | coded)" "$(queued)"
        # Nothing can arrive for it, and at a limit a task asks again and again. The number of what was to follow on is known to others.
        if [ "$4" -eq 0 ]; then rm -rf "$dir"; else rm -rf "$dir/services" "$dir/tls" "$dir/keeper.sh"; fi
        return
    fi
    # An answer that was lost may be of a job that still arrives; in its folder it finds that it is not wanted any more.
    if [ "$1" -ne 0 ] && [ "$1" -lt 124 ] && [ -n "$3" ] && ! printf '%s\n' "$2" | grep -qiE "$lost_answers"; then
        give_way "$4" "not taken"
    fi
    printf 'unsure %s\n' "$(printf '%s' "${2:-sbatch told no job, with exit code $1}" | coded)"
}
