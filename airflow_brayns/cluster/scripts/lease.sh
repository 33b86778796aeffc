# Whoever works with an allocation renews its lease. One movie at a time drives its services, or one of them: it renders there.
# `driver.<token>` says who; it is made and renamed by `drive` only, so that a driver which was taken over never comes back.
# PLACE is `N` for an allocation, `N/services/SERVICE` for one of its services. A service that runs in no allocation of ours has a
# folder `at-…/1` of its own. BY is for which movie, in base64: the next try of the same takes over, another one has to wait.

renew() { # renew NAME N: it notes that somebody uses the allocation
    if [ -d "$state_dir/$1/$2" ] && [ ! -e "$state_dir/$1/$2/ended" ]; then
        if refresh "$state_dir/$1/$2/lease" "$(now)"; then printf 'used\n'; else no_room "$state_dir"; fi
    fi
}

driven_by_another() { # driven_by_another DIR BY: "SECONDS BY" of another movie that was heard of lately: here, above or below
    local one told at by
    for one in "$1/driven" "$1"/services/*/driven "${1%/services/*}/driven"; do
        told='' by=''
        [ -e "$one" ] && read -r told _ by <"$one"
        [ -n "$by" ] && [ "$by" != "$2" ] && [ -e "${one%/driven}/driver.$told" ] || continue
        at=$(age_of "$one") || continue
        [ "$at" -le 20 ] || continue # as long as a driver that cannot confirm goes on; whole seconds are up to one too many
        printf '%s %s' "$at" "$by"
        return 0
    done
    return 1
}

is_its_own() { # is_its_own DIR BY: of another Airflow: an allocation, or a service with which a movie of our name renders there
    local last
    [ "$1" != "${1%/services/*}" ] || return 0
    last=$(first "$1/driven")
    case $last in *" $2") [ -e "$1/driver.${last%% *}" ] ;; *) return 1 ;; esac
}

drive() { # drive NAME PLACE TOKEN BY: take it over; tells how many seconds ago the driver before was heard of
    local dir old another heard one last age chosen
    dir=$state_dir/$1/$2
    case $1 in at-*)
        find "$state_dir"/at-*/1/driven -prune -mtime +1 2>/dev/null |
            while read -r old; do rm -rf "${old%/1/driven}"; done # nobody has confirmed these for a day
        mkdir -p "$dir"
        ;;
    esac
    [ -d "$dir" ] && [ ! -e "${dir%/services/*}/ended" ] || return 0
    if is_foreign "${dir%/services/*}" && is_its_own "$dir" "$4"; then
        printf 'foreign %s\n' "$theirs"
        return
    fi
    if another=$(driven_by_another "$dir" "$4"); then
        printf 'occupied %s %s %s\n' "$1" "$2" "$another"
        return
    fi
    heard=-1
    last=$(first "$dir/driven")
    age=$(age_of "$dir/driven")
    for one in "$dir"/driver.*; do
        [ -e "$one" ] || continue
        [ "$one" != "$dir/driver.$3" ] || continue
        [ "${last%% *}" != "${one##*/driver.}" ] || heard=$age
        mv "$one" "$dir/driver.$3" 2>/dev/null
    done
    [ -e "$dir/driver.$3" ] || make "$dir/driver.$3" || {
        no_room "$state_dir"
        return
    }
    chosen=
    for one in "$dir"/driver.*; do # two at the very same moment: the first name is it
        if [ -z "$chosen" ]; then chosen=$one; elif [ -e "$one" ]; then rm -f "$one"; fi
    done
    confirm "$1" "$2" "$3" "$4" "$heard"
    if another=$(driven_by_another "$dir" "$4"); then # one came above or below meanwhile: both step back, and ask again
        rm -f "$dir/driver.$3"
        printf 'occupied %s %s %s\n' "$1" "$2" "$another"
    fi
}

confirm() { # confirm NAME PLACE TOKEN BY HEARD: it is still ours, and in use
    local dir
    dir=$state_dir/$1/$2
    [ -d "$dir" ] || return 0
    if [ -e "$dir/driver.$3" ]; then
        refresh "$dir/driven" "$3 $(now) $4"
        [ -e "${dir%/services/*}/ended" ] || refresh "${dir%/services/*}/lease" "$(now)"
        printf 'driving %s %s %s\n' "$1" "$2" "$5"
    else
        printf 'undriven %s %s\n' "$1" "$2"
    fi
}

let_go() { # let_go NAME PLACE TOKEN: the next one need not wait
    rm -f "$state_dir/$1/$2/driver.$3"
}
