# A request is submitted exactly once.
# Set above: keeper keeper_length asked about choosy nodes_wanted partitions; and the functions services and secrets, which fill $dir.
# Shared: avoid.

submit() { # submit NAME TOKEN AFTER: AFTER is the incarnation that a follow-up is for, which goes on; 0 for none
    local n dir
    mkdir -p "$state_dir" 2>/dev/null && [ -w "$state_dir" ] || {
        no_room "$state_dir"
        return
    }
    check_folder || return 0
    ! sweep || forget_failures
    locked "$1" || {
        if [ -d "$state_dir/$1/.lock" ]; then
            printf 'busy another command is submitting %s\n' "$1"
        else
            no_room "$state_dir"
        fi
        return
    }
    ! is_given_back "$1" "$3" || {
        printf 'over\n'
        return
    }
    # What follows on is known by what was asked for first: that is what a next try asks for.
    if [ "$3" -ne 0 ] && folder_of "$1" "$3" && [ -s "$folder/asked" ]; then asked=$(first "$folder/asked"); fi
    n=$(latest "$1")
    [ "$n" -le "$3" ] || ! adopt "$1" "$2" "$3" "$n" || return 0
    if [ "$3" -eq 0 ]; then
        end_earlier "$1" $((n + 1)) # whatever comes of them now, they must not start
    elif [ "$n" -gt "$3" ] && [ ! -e "$state_dir/$1/$n/job" ] && [ ! -e "$state_dir/$1/$n/release" ]; then
        give_up "$state_dir/$1/$n" # its answer was lost; should it still arrive, it must not start either
    fi
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
    # Whoever keeps the one before reads there that this one follows on.
    [ "$3" -eq 0 ] || { folder_of "$1" "$3" && put "$folder/next" "$n"; } || {
        rm -rf "$dir"
        no_room "$state_dir"
        return
    }
    if [ "$scheduler" = local ]; then
        start_here "$n"
    else
        [ "$choosy" = yes ] || avoid=$(avoided "$nodes_wanted" "$partitions")
        ask_slurm "$1" "$n" "$3"
    fi
    # Given back meanwhile: whoever did it may not have seen this one yet.
    if [ -d "$dir" ] && is_given_back "$1" "$3"; then give_up "$dir"; fi
}

adopt() { # adopt NAME TOKEN AFTER N: answers where N is what is asked for, or may be, or is another's; fails where a new one is needed
    local dir end job state
    dir=$state_dir/$1/$4
    [ -d "$dir" ] || return 1 # folded away
    for end in release ending ended cancelled; do [ ! -e "$dir/$end" ] || return 1; done
    job=$(find_new_job "$dir") || {
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
        [ -e "$dir/job" ] || put "$dir/job" "$(printf '%s' "$job" | awk -F'|' '{ print $1, $(NF - 2) }')"
        refresh "$dir/lease" "$(now)"
        take_over "$dir" "$2" || return 1
        [ "$3" -ne 0 ] || end_earlier "$1" "$4"
        report_job "$dir" "$4" 1
    elif [ -z "$job" ] && [ ! -e "$dir/job" ] && is_new "$dir"; then
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
