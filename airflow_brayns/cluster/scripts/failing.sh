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
        [ "$kind" = run ] || { folder_of "${failure%-*}" "${failure##*-}" && read -r key <"$folder/asked"; } 2>/dev/null || continue
        case $key in *[!ab0-9cdef-]*) continue ;; esac
        printf '%s %s %s %s\n' "$node" "$failure" "$kind" "$key"
    done | awk '{ jobs[$1]++; line[NR] = $0; node[NR] = $1 } END { for (i = 1; i <= NR; i++) if (jobs[node[i]] > 1) print line[i] }'
}

forget_failures() { # those of before
    find "$state_dir/failures" -mindepth 2 -maxdepth 2 -type f -mmin +1440 -exec rm -f {} + 2>/dev/null
    find "$state_dir/failures" -mindepth 1 -maxdepth 1 -type d -empty -exec rmdir {} + 2>/dev/null
}

# Each of the next four goes once through what is there, in the state folder, however many KEYS: others wait for its lock meanwhile.

# shellcheck disable=SC2016 # awk's
did_the_same() { # did_the_same KIND KEYS: "KIND KEY FOLDER" of all that asked for the same within two days and are not folded away
    [ -z "$2" ] || printf '%s\n' ab-*/[0-9]*/asked | grep -x 'ab-[0-9a-f]*/[0-9]*/asked' |
        xargs sh -c '[ $# -eq 0 ] || find "$@" -prune -mtime -2 2>/dev/null' sh | xargs awk -v kind="$1" -v keys="$2" '
            BEGIN { for (i = split(keys, list, " "); i > 0; i--) wanted[list[i]] }
            FNR == 1 && $0 in wanted { print kind, $0, substr(FILENAME, 1, length(FILENAME) - 6) }' /dev/null
}

were_booked_with() { # were_booked_with KEYS: "run KEY FOLDER" of all parts of these bookings: what the scene may have ended only those tell that rendered it
    local key one
    [ -n "$1" ] || return 0
    printf '%s\n' ab-*/[0-9]*/ | awk -v keys="$1" '
        BEGIN { for (i = split(keys, list, " "); i > 0; i--) wanted[list[i]] }
        substr($0, 1, 15) in wanted { print "run", substr($0, 1, 15), substr($0, 1, length($0) - 1) }'
    for key in $1; do
        for one in .ab-finished/*/"$key"/*/[0-9]*/; do [ ! -d "$one" ] || printf '%s %s %s\n' run "$key" "${one%/}"; done
    done
}

fared() { # fared: of these lines on stdin, "KIND KEY NODE well" or "... failed" for each service that was started
    local kind key folder one node name
    while read -r kind key folder; do
        name=${folder%/*}
        name=${name##*/}-${folder##*/}
        for one in "$folder"/services/*/; do
            [ -s "$one/port.sed" ] && [ -s "$one/node" ] || continue
            read -r node <"$one/node" || continue
            if [ -e "failures/$node/$name" ]; then
                printf '%s %s %s failed\n' "$kind" "$key" "$node"
            elif [ -e "$one/listening" ]; then
                printf '%s %s %s well\n' "$kind" "$key" "$node"
            fi
        done
    done
}

fared_before() { # fared_before KIND KEYS: the same of all that asked for the same and were folded away today or yesterday, so ended within three days
    local kind keys day one number
    [ -n "$2" ] || return 0
    kind=$1
    keys=$2
    day=$(($(now) / 86400))
    set --
    for one in .ab-finished/[0-9]*/fared; do
        number=${one#*/}
        [ ! -e "$one" ] || [ "${number%/*}" -lt $((day - 1)) ] || set -- "$@" "$one"
    done
    [ $# -gt 0 ] || return 0
    find failures -mindepth 2 -maxdepth 2 -type f 2>/dev/null | awk -v kind="$kind" -v keys="$keys" '
        BEGIN { for (i = split(keys, list, " "); i > 0; i--) wanted[list[i]] }
        NF == 1 { failed[substr($0, 10)] }
        NF == 5 && $4 in wanted { name = $2; sub("/", "-", name)
            how = ($1 "/" name) in failed ? "failed" : "well"
            if ((how == "failed" || $5 != "-") && !seen[$4, $1, how]++) print kind, $4, $1, how }' - "$@"
}

keys_of() { # keys_of KIND: of lines of failures on stdin, the first 500: they are words of a command that `xargs` gives more to
    awk -v kind="$1" '$3 == kind && !seen[$4]++ && n++ < 500 { printf "%s ", $4 }'
}

failing_nodes() { # "JOBS NODE FAILURE" of each, the worst first: others did well, and it is not what was asked for that fails wherever it runs
    local found starts readies runs
    found=$(failures)
    [ -n "$found" ] || return 0
    starts=$(printf '%s\n' "$found" | keys_of start)
    readies=$(printf '%s\n' "$found" | keys_of ready)
    runs=$(printf '%s\n' "$found" | keys_of run)
    {
        (cd "$state_dir" && {
            {
                did_the_same start "$starts"
                did_the_same ready "$readies"
                were_booked_with "$runs"
            } | fared
            fared_before start "$starts"
            fared_before ready "$readies"
        })
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
