# A node fails where services of different jobs failed within a day and others did well with the same: then the node is at fault.

failures_of() { # failures_of NODE: the names of those of a day
    find "$state_dir/failures/$1" -mindepth 1 -maxdepth 1 -type f -name 'ab-*-*' -mmin -1440 2>/dev/null | sed 's|.*/||' | sort
}

forget_failures() { # those of before
    find "$state_dir/failures" -mindepth 2 -maxdepth 2 -type f -mmin +1440 -exec rm -f {} + 2>/dev/null
    find "$state_dir/failures" -mindepth 1 -maxdepth 1 -type d -empty -exec rmdir {} + 2>/dev/null
}

compared_with() { # compared_with NAME N KIND: folders of what must do well elsewhere: the same booking, or all that asked for the same
    local same
    if [ "$3" = run ]; then # what the scene may have ended: only those that rendered the same tell
        find "$state_dir" -mindepth 2 -maxdepth 2 -type d -path "$state_dir/$(printf '%s' "$1" | cut -c1-15)*/[0-9]*" 2>/dev/null
        return
    fi
    same=$(first "$state_dir/$1/$2/asked")
    [ -z "$same" ] || find "$state_dir" -mindepth 3 -maxdepth 3 -path "$state_dir/ab-*/[0-9]*/asked" -mtime -2 \
        -exec grep -lxF "$same" {} + 2>/dev/null | sed 's|/asked$||'
}

fared() { # fared: of folders on stdin, "NODE well" or "NODE failed" for each service that was started
    local folder one node name
    while read -r folder; do
        name=${folder%/*}
        name=${name##*/}-${folder##*/}
        for one in "$folder"/services/*/; do
            [ -s "$one/port.sed" ] && node=$(first "$one/node") && [ -n "$node" ] || continue
            if [ -e "$state_dir/failures/$node/$name" ]; then
                printf '%s failed\n' "$node"
            elif [ -e "$one/listening" ]; then
                printf '%s well\n' "$node"
            fi
        done
    done
}

is_at_fault() { # is_at_fault NODE FAILURE: others did well, and it is not what was asked for that fails wherever it runs
    local kind name
    kind=$(first "$state_dir/failures/$1/$2")
    kind=${kind%% *}
    name=${2%-*}
    compared_with "$name" "${2##*-}" "$kind" | fared | sort -u | awk -v node="$1" -v kind="$kind" '
        $1 != node { seen[$1]; if ($2 == "failed") failed[$1] }
        END { for (one in seen) { if (one in failed) bad++; else well++ }
            exit !(kind == "run" ? well && !bad : well > bad) }'
}

failing_nodes() { # "JOBS NODE WHY" of each, the worst first
    local folder node one jobs why
    for folder in "$state_dir"/failures/*/; do
        node=${folder%/}
        node=${node##*/}
        case $node in [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) continue ;; esac
        jobs=0
        for one in $(failures_of "$node"); do
            ! is_at_fault "$node" "$one" || {
                jobs=$((jobs + 1))
                why=$(first "$state_dir/failures/$node/$one")
            }
        done
        [ "$jobs" -lt 2 ] || printf '%s %s %s\n' "$jobs" "$node" "${why#* }"
    done | sort -rn
}

failing() { # it tells of them
    local jobs node why
    failing_nodes | while read -r jobs node why; do printf 'failing %s %s %s\n' "$node" "$jobs" "$(printf '%s' "$why" | coded)"; done
}

usable_nodes() { # usable_nodes PARTITIONS: what they may give, each node once; without PARTITIONS of the default one
    at_most 15 sinfo -h -N ${1:+-p "$1"} -o 'node %N %t %P' 2>/dev/null | plain |
        awk -v named="$1" '$1 == "node" && NF == 4 && (named != "" || $4 ~ /\*$/) && $3 ~ /^(idle|alloc|mix|comp|plnd)/ && $3 !~ /\*/ && !seen[$2]++ { print $2 }'
}

avoided() { # avoided NODES PARTITIONS: nodes that a request for so many can do without, with commas: at most a quarter of all, and eight
    local bad
    bad=$(failing_nodes | cut -d' ' -f2)
    [ -n "$bad" ] || return 0
    {
        printf '%s\n' "$bad"
        printf -- '-\n'
        usable_nodes "$2"
    } | awk -v wanted="$1" '
        $0 == "-" { listed = 1; next }
        !listed { bad[++worst] = $0; next }
        { there[$0]; all++ }
        END { most = int(all / 4); if (most > 8) most = 8; if (most > all - wanted) most = all - wanted
            for (i = 1; i <= worst && n < most; i++) if (bad[i] in there) text = text (n++ ? "," : "") bad[i]
            printf "%s", text }'
}
