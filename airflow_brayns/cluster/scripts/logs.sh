# What is new of the services' logs: they are asked for by the thousand, and few have grown.

log_since() { # log_since NAME N SERVICE OFFSET MOST: new bytes of a service's log, at most MOST
    printf 'log %s %s %s %s %s\n' "$1" "$2" "$3" "$4" "$(tail -c "+$(($4 + 1))" "$state_dir/$1/$2/services/$3/log" | head -c "$5" | coded)"
}

logs_since() { # logs_since "NAME N SERVICE OFFSET"...: what is new of each log, at most 64 KiB, and of all 8 MiB and what is read in 8 s; sizes are asked at once
    local sizes name number service offset new
    sizes=$(printf '%s\n' "$@" | awk '{ print $1 "/" $2 "/services/" $3 "/log" }' | (cd "$state_dir" && xargs stat -L -c '%s %n' 2>/dev/null))
    printf '%s\n' "$sizes" "$@" | awk '
        NF == 2 { size[$2] = $1 }
        NF == 4 && size[$1 "/" $2 "/services/" $3 "/log"] > $4 {
            new = size[$1 "/" $2 "/services/" $3 "/log"] - $4
            if (new > 65536) new = 65536
            all += new
            if (all <= 8388608) print $0, new
        }' |
        {
            limit 8
            while read -r name number service offset new; do
                log_since "$name" "$number" "$service" "$offset" "$new"
                ! is_late || break
            done
        }
}
