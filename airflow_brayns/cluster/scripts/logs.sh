# What is new of the services' logs: they are asked for by the thousand, and few have grown.

log_since() { # log_since NAME N SERVICE OFFSET PLACE MOST: new bytes of a service's log, at most MOST
    printf 'log %s %s %s %s %s\n' "$1" "$2" "$3" "$4" "$(tail -c "+$(($4 + 1))" "$state_dir/$5/services/$3/log" | head -c "$6" | coded)"
}

logs_since() { # logs_since "NAME N SERVICE OFFSET [PLACE]"...: what is new of each log, at most 64 KiB, and of all 8 MiB and what is read in 8 s; sizes are asked at once
    local sizes name number service offset place new
    sizes=$(printf '%s\n' "$@" | awk '{ print (NF > 4 ? $5 : $1 "/" $2) "/services/" $3 "/log" }' | (cd "$state_dir" && xargs stat -L -c '%s %n' 2>/dev/null))
    printf '%s\n' "$sizes" "$@" | awk '
        NF == 2 { size[$2] = $1 }
        NF > 2 { place = NF > 4 ? $5 : $1 "/" $2 }
        NF > 2 && size[place "/services/" $3 "/log"] > $4 {
            new = size[place "/services/" $3 "/log"] - $4
            if (new > 65536) new = 65536
            all += new
            if (all <= 8388608) print $1, $2, $3, $4, place, new
        }' |
        {
            limit 8
            while read -r name number service offset place new; do
                log_since "$name" "$number" "$service" "$offset" "$place" "$new"
                ! is_late || break
            done
        }
}
