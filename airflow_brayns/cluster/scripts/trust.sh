# The state folder must be ours: what lies there is run under our name.
# Shared: mode uid gid.

untrusted() { # untrusted WORD PART OWNER
    printf 'untrusted %s %s %s\n' "$1" "$(printf '%s' "$2" | coded)" "$(printf '%s' "$3" | coded)"
    return 1
}

part_of() { # part_of PATH: sets mode, uid and gid of a folder, or of a link itself
    local words
    # shellcheck disable=SC2012 # the first four words, which hold no name
    words=$(ls -ldn "$1" 2>/dev/null | cut -c1-200)
    set -f
    # shellcheck disable=SC2086 # words
    set -- $words - - - -
    set +f
    mode=$1
    uid=$3
    gid=$4
}

name_of() { id -nu "$1" 2>/dev/null || printf 'uid %s' "$1"; }

is_our_group() { # is_our_group GID: root's, or the user's private one, in which nobody else is
    local members
    [ "$1" != 0 ] || return 0
    [ "$1" = "$(id -g)" ] && [ "$(id -gn)" = "$(id -un)" ] || return 1
    members=$(getent group "$1" 2>/dev/null || grep "^[^:]*:[^:]*:$1:" /etc/group)
    members=${members##*:}
    [ -z "$members" ] || [ "$members" = "$(id -un)" ]
}

others_write() { # of mode and gid; a `+` behind the mode is an ACL, whose widest right the group's letters show
    case $mode in
    ????????w*) return 0 ;;
    ?????w*) ! is_our_group "$gid" ;;
    *) return 1 ;;
    esac
}

check_part() { # check_part FOLDER: nobody but us and root may put another thing in the place of one in it
    [ "$shared" != yes ] || return 0
    part_of "$1/."
    [ "$uid" = 0 ] || [ "$uid" = "$(id -u)" ] || untrusted owner "${1:-/}" "$(name_of "$uid")" || return 1
    case $mode in ?????????[tT]*) return 0 ;; esac # sticky, as /tmp: only what is one's own
    ! others_write || untrusted writable "${1:-/}" "$(name_of "$uid")"
}

check_folder() { # every folder on the way, through links too; then the state folder, which is ours alone. Sets at
    local left at hops part target
    left=$state_dir
    at=
    hops=0
    while [ -n "$left" ]; do
        part=${left%%/*}
        case $left in */*) left=${left#*/} ;; *) left= ;; esac
        case $part in
        '' | .) continue ;;
        ..)
            at=${at%/*}
            continue
            ;;
        esac
        check_part "$at" || return 1
        if [ ! -L "$at/$part" ]; then
            at=$at/$part
            continue
        fi
        part_of "$at/$part"
        [ "$shared" = yes ] || [ "$uid" = 0 ] || [ "$uid" = "$(id -u)" ] ||
            untrusted link "$at/$part" "$(name_of "$uid")" || return 1
        hops=$((hops + 1))
        [ "$hops" -lt 40 ] || untrusted link "$at/$part" '' || return 1
        target=$(readlink "$at/$part")
        case $target in /*) at= ;; esac
        left=$target/$left
    done
    part_of "$at/."
    [ "$uid" = "$(id -u)" ] || untrusted owner "$at" "$(name_of "$uid")" || return 1
    ! others_write || untrusted writable "$at" "$(name_of "$uid")" || return 1
    case $mode in drwx--[-S]--[-T]*) return 0 ;; esac
    chmod 700 "$at" 2>/dev/null # 0.2.0 left a folder that was there as it was
    part_of "$at/."
    case $mode in drwx--[-S]--[-T]*) ;; *) untrusted mode "$at" "$(name_of "$uid")" ;; esac
}
