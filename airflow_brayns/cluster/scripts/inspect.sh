# Each function checks one thing that a connection needs. Nothing is allocated and nothing stays.

programs() { # programs NAME...: which of them are on the PATH; of sbatch, the version
    local one version
    for one in "$@"; do
        if ! command -v "$one" >/dev/null 2>&1; then
            printf 'missing %s\n' "$one"
            continue
        fi
        version=
        [ "$one" != sbatch ] || version=$(at_most 10 sbatch --version 2>/dev/null | plain | sed -n '/^slurm/{p;q;}')
        printf 'program %s %s\n' "$one" "$version"
    done
}

accounts() { # accounts: those that the user may charge; nothing where the site keeps none
    local found
    found=$(at_most 15 sacctmgr -nP show assoc "user=$(id -un)" "format=account" 2>/dev/null) || return 0
    found=$(printf '%s\n' "$found" | plain | sed 's/[| ]*$//' | grep -x '[^ ]*[A-Za-z0-9][^ ]*') # a greeting has more words than one
    [ -z "$found" ] || printf 'accounts %s\n' "$(printf '%s\n' "$found" | coded)"
}

offered() { # offered: what the user may ask for; nothing of what nobody tells
    local found
    found=$(at_most 15 sinfo -h -o '%P|%a|%l|%D|%f' 2>/dev/null) && [ -n "$found" ] && printf 'partitions %s\n' "$(printf '%s\n' "$found" | coded)"
    found=$(at_most 15 sacctmgr -nP show assoc "user=$(id -un)" "format=account,partition,qos" 2>/dev/null) && [ -n "$found" ] &&
        printf 'associations %s\n' "$(printf '%s\n' "$found" | coded)"
    found=$(at_most 15 sinfo -h -T 2>/dev/null) && [ -n "$found" ] && printf 'reservations %s\n' "$(printf '%s\n' "$found" | coded)"
    return 0
}

partition() { # partition NAME: whether there is one of each name between the commas; nothing where nobody answers
    local one found code
    for one in $(printf '%s' "$1" | tr ',' ' '); do
        found=$(at_most 15 sinfo -h -p "$one" -o '%P' 2>&1)
        code=$?
        if printf '%s\n' "$found" | plain | tr -d ' *' | grep -qxF -e "$one"; then
            printf 'known %s\n' "$one"
        elif [ "$code" -eq 0 ] && [ -z "$found" ]; then # else a wrapper greets, or has swallowed an error
            printf 'unknown %s\n' "$one"
        fi
    done
}

tested() { # tested WORD...: what sbatch, with what it gets of a submission (NAMED), says of a request with these options; it submits nothing
    local said code
    said=$(printf '#!/bin/sh\n' | at_most 30 env -i ${HOME:+"HOME=$HOME"} ${USER:+"USER=$USER"} ${LOGNAME:+"LOGNAME=$LOGNAME"} \
        ${PATH:+"PATH=$PATH"} ${SLURM_CONF:+"SLURM_CONF=$SLURM_CONF"} sbatch --test-only "$@" 2>&1)
    code=$?
    printf 'tested %s %s\n' "$code" "$(printf '%s' "$said" | coded)"
}

kept() { # kept: whether the state folder is ours, and what is written there can be read back
    mkdir -p "$state_dir" 2>/dev/null || { no_room "$state_dir" && return; }
    check_folder || return 0
    if has_room "$state_dir" && write "$state_dir/.test.$$" 7 written && [ "$(first "$state_dir/.test.$$")" = written ]; then
        printf 'kept %s\n' "$state_dir"
    else
        no_room "$state_dir"
    fi
    rm -f "$state_dir/.test.$$"
}

legible() { # legible FILE: whether it can be read here
    if [ -f "$1" ] && [ -r "$1" ]; then printf 'legible %s\n' "$1"; fi
}

ran() { # ran SECONDS SCRIPT: what a service's first lines do here, run as on a node
    local said code
    printf '%s\n' "$2" >"$scratch/trial" # no argument, which every user of the machine can read
    said=$(without_ours "$1" bash -l "$scratch/trial" 2>&1)
    code=$?
    printf 'ran %s %s\n' "$code" "$(printf '%s' "$said" | tail -n 12 | tail -c 4000 | coded)"
}
