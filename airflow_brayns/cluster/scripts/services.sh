# Services come and go in a running allocation.

add_service() { # add_service NAME N SERVICE FILL: a function that writes the service's files into $service_dir
    local dir service_dir
    dir=$state_dir/$1/$2
    service_dir=$dir/services/$3
    if [ ! -d "$dir" ] || [ -e "$dir/ended" ] || [ -e "$dir/release" ]; then
        printf 'ended %s\n' "$(printf 'the allocation %s/%s has ended' "$1" "$2" | coded)"
        return
    fi
    if is_foreign "$dir"; then
        printf 'foreign %s\n' "$theirs"
        return
    fi
    check_folder || return 0
    if [ -e "$service_dir/command" ]; then
        printf 'present %s\nwanted %s\n' "$3" "$(first "$service_dir/wanted")"
        return
    fi
    if ! { mkdir -p "$service_dir" 2>/dev/null && "$4"; }; then
        rm -rf "$service_dir"
        no_room "$state_dir"
        return
    fi
    end_job "$dir" soft
    printf 'added %s\n' "$3"
}

stop_service() { # stop_service NAME N SERVICE
    local dir service_dir tries
    dir=$state_dir/$1/$2
    service_dir=$dir/services/$3
    if [ -d "$dir" ] && [ ! -d "$service_dir" ]; then # never started: not the same as ended
        printf 'absent %s\n' "$3"
        return
    fi
    if [ -d "$service_dir" ] && [ ! -e "$service_dir/exit" ] && [ ! -e "$dir/ended" ]; then
        if is_foreign "$dir"; then
            printf 'foreign %s\n' "$theirs"
            return
        fi
        put "$service_dir/stop" now || make "$service_dir/stop" || {
            no_room "$state_dir"
            return
        }
        end_job "$dir" soft
        tries=0
        while [ ! -e "$service_dir/exit" ] && [ ! -e "$dir/ended" ] && [ "$tries" -lt 100 ]; do
            sleep 0.2 2>/dev/null || sleep 1
            ls "$service_dir" >/dev/null
            tries=$((tries + 1))
        done
    fi
    if [ ! -d "$service_dir" ] || [ -e "$service_dir/exit" ] || [ -e "$dir/ended" ]; then printf 'stopped %s\n' "$3"; fi
}

useless() { # useless NAME N SERVICE KIND WHY: whoever waits for it, or renders with it, says so; it has not ended
    note_failure "$state_dir/$1/$2" "$3" "$5" "$4"
}

command_of() { # command_of NAME N SERVICE: what a service was started with, and the digest by which its job knows that
    local service_dir part
    folder_of "$1" "$2"
    service_dir=$folder/services/$3
    for part in index port port.sed command; do
        [ -f "$service_dir/$part" ] && [ -O "$service_dir/$part" ] && [ ! -L "$service_dir/$part" ] || continue
        printf 'part %s %s\n' "$part" "$(coded <"$service_dir/$part")"
    done
    printf 'known %s\n' "$(sed -n "s/^\(proofs='\{0,1\}\)\{0,1\}$3 \([0-9a-f]\{64\}\)'\{0,1\}\$/\2/p" "$folder/keeper.sh" 2>/dev/null | head -n 1)"
    printf 'proof %s\n' "$(first "$service_dir/proof")"
}
