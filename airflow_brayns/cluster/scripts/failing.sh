# A node fails where services of different jobs failed within a day and others did well with the same: then the node is at fault.

failures() { # "NODE FAILURE KIND KEY" of each within a day, of nodes that have several; KEY is what it is compared by
    local path node failure kind key
    find "$state_dir/failures" -mindepth 2 -maxdepth 2 -type f -name 'ab-*-*' -mmin -1440 2>/dev/null | sort | while read -r path; do
        failure=${path##*/}
        node=${path%/*}
        node=${node##*/}
        case $node/$failure in [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*/* | */*[!ab0-9cdef-]*) continue ;; esac
        read -r kind key <"$path" || continue
        key=${failure%"${failure#???????????????}"} # its booking
        [ "$kind" = run ] || [ "$kind" = ready ] || kind=start
        [ "$kind" = run ] || { read -r key <"$state_dir/${failure%-*}/${failure##*-}/asked"; } 2>/dev/null || continue
        case $key in *[!ab0-9cdef-]*) continue ;; esac
        printf '%s %s %s %s\n' "$node" "$failure" "$kind" "$key"
    done | awk '{ jobs[$1]++; line[NR] = $0; node[NR] = $1 } END { for (i = 1; i <= NR; i++) if (jobs[node[i]] > 1) print line[i] }'
}

forget_failures() { # those of before
    find "$state_dir/failures" -mindepth 2 -maxdepth 2 -type f -mmin +1440 -exec rm -f {} + 2>/dev/null
    find "$state_dir/failures" -mindepth 1 -maxdepth 1 -type d -empty -exec rmdir {} + 2>/dev/null
}

compared_with() { # compared_with KIND KEY: folders of what must do well elsewhere: the same booking, or all that asked for the same
    if [ "$1" = run ]; then # what the scene may have ended: only those that rendered the same tell
        find "$state_dir" -mindepth 2 -maxdepth 2 -type d -path "$state_dir/$2*/[0-9]*" 2>/dev/null
    else
        find "$state_dir" -mindepth 3 -maxdepth 3 -path "$state_dir/ab-*/[0-9]*/asked" -mtime -2 -exec grep -lxF "$2" {} + 2>/dev/null |
            sed 's|/asked$||'
    fi
}

fared() { # fared: of folders on stdin, "NODE well" or "NODE failed" for each service that was started; no process is made for any
    local folder one node name
    while read -r folder; do
        name=${folder%/*}
        name=${name##*/}-${folder##*/}
        for one in "$folder"/services/*/; do
            [ -s "$one/port.sed" ] && [ -s "$one/node" ] || continue
            read -r node <"$one/node" || continue
            if [ -e "$state_dir/failures/$node/$name" ]; then
                printf '%s failed\n' "$node"
            elif [ -e "$one/listening" ]; then
                printf '%s well\n' "$node"
            fi
        done
    done
}

failing_nodes() { # "JOBS NODE FAILURE" of each, the worst first: others did well, and it is not what was asked for that fails wherever it runs
    local found kind key
    found=$(failures)
    [ -n "$found" ] || return 0
    {
        printf '%s\n' "$found" | cut -d' ' -f3,4 | sort -u | while read -r kind key; do
            compared_with "$kind" "$key" | fared | sort -u | sed "s/^/$kind $key /"
        done
        printf '%s\n' "$found" | sed 's/$/ ./'
    } | awk '
        NF == 4 { if ($4 == "failed") failed[$1, $2, $3]; if (!(($1, $2, $3) in seen)) nodes[$1, $2] = nodes[$1, $2] " " $3; seen[$1, $2, $3] }
        NF == 5 { well = bad = 0
            for (i = split(nodes[$3, $4], others, " "); i > 0; i--)
                if (others[i] != $1) { if (($3, $4, others[i]) in failed) bad++; else well++ }
            # One that listened and was never usable may be out of reach only, as others would be, too, by the same way.
            if ($3 == "run" ? well && !bad : $3 == "ready" ? well > 3 * bad : well > bad) { jobs[$1]++; last[$1] = $2 } }
        END { for (node in jobs) if (jobs[node] > 1) print jobs[node], node, last[node] }' | sort -rn
}

failing() { # it tells of them
    local jobs node failure why
    failing_nodes | while read -r jobs node failure; do
        why=$(first "$state_dir/failures/$node/$failure")
        printf 'failing %s %s %s\n' "$node" "$jobs" "$(printf '%s' "${why#* }" | coded)"
    done
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
