# What is done on the login machine: submit, look, release. POSIX sh, read on stdin by `/bin/sh -s`, one call per command.
# Set above this line: scheduler state_dir shared. Answers are lines "key value…"; texts of any kind travel in base64.
set -u
umask 077
shared=${shared-}
tilde='~'
case $state_dir in
"$tilde") state_dir=$HOME ;;
"$tilde"/*) state_dir=$HOME/${state_dir#??} ;;
/*) ;;
*) state_dir=$HOME/$state_dir ;;
esac
# The user's own defaults would change what is asked and what is answered; those of a job around us would reach the next one.
for one in $(env | sed -n 's/^\([A-Z][A-Z_0-9]*\)=.*/\1/p'); do
    case $one in
    SLURM_CONF) ;;
    SLURM_* | SBATCH_* | SALLOC_* | SRUN_* | SQUEUE_* | SCANCEL_* | SCONTROL_* | SINFO_* | SACCT_*) unset "$one" ;;
    esac
done
export LC_ALL=C

now() { date +%s; }
# A write that fails is told by its exit code; never `: >file`, whose failure ends a POSIX shell.
put() { # put FILE LINE: whole or not at all
    if { printf '%s\n' "$2" >"$1.new.$$"; } 2>/dev/null && IFS= read -r written <"$1.new.$$" && [ "$written" = "$2" ]; then
        mv -f "$1.new.$$" "$1" 2>/dev/null && return 0
    fi
    rm -f "$1.new.$$"
    return 1
}
write() { # write FILE LENGTH TEXT: LENGTH in bytes
    if { printf '%s' "$3" >"$1.new.$$"; } 2>/dev/null && [ "$(wc -c <"$1.new.$$")" -eq "$2" ]; then
        mv -f "$1.new.$$" "$1" 2>/dev/null && return 0
    fi
    rm -f "$1.new.$$"
    return 1
}
refresh() { # refresh FILE LINE: also where there is no room: a line as long as before, in its place
    put "$1" "$2" || { [ -e "$1" ] && { printf '%s\n' "$2" 1<>"$1"; } 2>/dev/null; }
}
make() { { printf '' >>"$1"; } 2>/dev/null; } # an empty file
no_room() { # no_room FOLDER: why nothing could be written there: it is full (or a quota is), or may not be written at all
    said=$({ mkdir -p "$1" && dd if=/dev/zero of="$1/.room.$$" bs=4096 count=64; } 2>&1)
    rm -f "$1/.room.$$"
    case $said in
    *ermission\ denied* | *ead-only* | *ot\ permitted* | *ot\ a\ directory* | *File\ exists* | *o\ such\ file* | *ame\ too\ long* | *ymbolic\ links*)
        printf 'unwritable %s\n' "$1"
        ;;
    *) printf 'full %s\n' "$1" ;;
    esac
}
(trap '' XFSZ) 2>/dev/null && trap '' XFSZ # a limit on files' sizes is a full folder, too, and not our death
coded() { base64 | tr -d '\n'; }
first() {
    line=
    [ -e "$1" ] && IFS= read -r line <"$1"
    printf '%s' "$line"
}
at_most() { # at_most SECONDS COMMAND...: Slurm's own time-outs add up to half a minute
    seconds=$1
    shift
    if command -v timeout >/dev/null 2>&1; then timeout "$seconds" "$@"; else "$@"; fi
}

# ---- the scheduler: Slurm, or processes of this machine ---------------------------------------------------------------
# Each job is a line of squeue's: id|state|reason|nodes|comment|name|submit time|start|time left

process_started() { # the kernel's start time of a process; nothing for a zombie or none
    sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'
}

jobs_of() { # jobs_of DIR...: every job of ours (Slurm answers for all at once)
    if [ "$scheduler" = slurm ]; then
        # Not into a file: of one that could not be written whole, what is missing would count as ended.
        listing=$(at_most 30 squeue -h -t all -u "$(id -un)" -o '%i|%T|%r|%N|%k|%j|%V|%S|%L' 2>"$errors") || return 1
        printf '%s\n' "$listing" | grep '|ab-[0-9a-f]*-[0-9]*|'
        return 0
    fi
    for one in "$@"; do
        job=$(first "$one/job")
        [ -n "$job" ] || continue
        state=COMPLETED
        [ "$(process_started "${job%% *}")" = "${job#* }" ] && state=RUNNING
        name=$(basename "$(dirname "$one")")-$(basename "$one")
        left=$(first "$one/claim/ends")
        [ -z "$left" ] || left=$(((left - $(now)) / 60)):$(printf '%02d' $(((left - $(now)) % 60)))
        printf '%s|%s|None|%s||%s|%s||%s\n' "${job%% *}" "$state" "$(first "$one/claim/nodes" | tr ' ' ',')" "$name" "${job#* }" "$left"
    done
}

find_job() { # find_job DIR: the line of the job of one allocation; fails when the scheduler does not answer
    name=$(basename "$(dirname "$1")")-$(basename "$1")
    answer=$(jobs_of "$1") || return 1
    printf '%s\n' "$answer" | awk -F'|' -v name="$name" '$6 == name' | tail -n 1
}

end_job() { # end_job DIR soft|hard: ask the keeper to look, or end the job; by name too, since ids are given out again
    # A job without a keeper has nobody to ask, and scancel tries for long to signal one that is pending.
    [ "$2" = hard ] || [ -d "$1/claim" ] || return 0
    id=$(first "$1/job")
    if [ "$scheduler" = slurm ]; then
        name=$(basename "$(dirname "$1")")-$(basename "$1")
        # shellcheck disable=SC2086 # no id yet is no word
        if [ "$2" = soft ]; then
            at_most 5 scancel --batch --signal=USR1 --name="$name" ${id%% *}
        else
            at_most 20 scancel --name="$name" ${id%% *}
        fi
    elif [ -n "$id" ] && [ "$(process_started "${id%% *}")" = "${id#* }" ]; then
        if [ "$2" = soft ]; then kill -USR1 "${id%% *}" 2>/dev/null; else kill -TERM "${id%% *}" 2>/dev/null; fi
    fi
    return 0
}

give_up() { # give_up DIR: the keeper is asked where there is one; a job that has not started, or cannot be told, is ended at once
    if put "$1/release" "$(now)" && [ -d "$1/claim" ]; then how=soft; else how=hard; fi
    [ -e "$1/ended" ] || end_job "$1" "$how"
}

is_over() { # is_over STATE
    case $1 in
    PENDING | CONFIGURING | RUNNING | COMPLETING | STAGE_OUT | SUSPENDED | STOPPED | SIGNALING | RESIZING | REQUEUE*) return 1 ;;
    *) return 0 ;;
    esac
}

holds_nodes() { # holds_nodes STATE: it has nodes, or will have; what is completing is as good as gone
    case $1 in
    PENDING | CONFIGURING | RUNNING | SUSPENDED | REQUEUE*) return 0 ;;
    *) return 1 ;;
    esac
}

# ---- whose folder it is: what lies there is run under our name ----------------------------------------------------------

untrusted() { # untrusted WORD PART OWNER
    printf 'untrusted %s %s %s\n' "$1" "$(printf '%s' "$2" | coded)" "$(printf '%s' "$3" | coded)"
    return 1
}

part_of() { # part_of PATH: sets mode, uid and gid of a folder, or of a link itself
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

# ---- submitting -------------------------------------------------------------------------------------------------------

locked() { # locked NAME: one at a time per allocation; a lock that its owner left behind is broken after two minutes
    mkdir -p "$state_dir/$1" || return 1
    tries=0
    while ! mkdir "$state_dir/$1/.lock" 2>/dev/null; do
        if [ -n "$(find "$state_dir/$1/.lock" -prune -mmin +2 2>/dev/null)" ]; then
            mv "$state_dir/$1/.lock" "$state_dir/$1/.stale.$$" 2>/dev/null && rmdir "$state_dir/$1/.stale.$$"
        fi
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || return 1
        sleep 0.2 2>/dev/null || sleep 1
    done
    lock=$state_dir/$1/.lock
}

latest() { # the number of the newest incarnation of NAME, 0 for none
    newest=0
    for one in "$state_dir/$1"/[0-9]*/; do
        one=${one%/}
        [ -d "$one" ] && [ "${one##*/}" -gt "$newest" ] && newest=${one##*/}
    done
    printf '%s' "$newest"
}

take_over() { # take_over DIR TOKEN: the owner's file is renamed; whoever cannot rename is not the owner any more
    [ -e "$1/owner.$2" ] && return 0 # the same try again: its worker was lost
    for one in "$1"/owner.*; do
        [ -e "$one" ] && mv "$one" "$1/owner.$2" && return 0
    done
    return 1
}

report_job() { # report_job DIR N ADOPTED
    printf 'incarnation %s\nadopted %s\njob %s\nfolder %s\n' "$2" "$3" "$(first "$1/job")" "$1"
}

end_earlier() { # end_earlier NAME N: the incarnations before N are of no use any more
    for one in "$state_dir/$1"/[0-9]*/; do
        one=${one%/}
        [ -d "$one" ] && [ "${one##*/}" -lt "$2" ] && [ ! -e "$one/release" ] || continue
        give_up "$one"
    done
}

await_earlier() { # await_earlier NAME N: the jobs before incarnation N have ended: at most one of an allocation is ever alive
    [ "$2" -gt 1 ] || return 0
    tries=0
    while [ "$tries" -lt 60 ] && answer=$(jobs_of "$state_dir/$1"/[0-9]*); do
        living=$(printf '%s\n' "$answer" | awk -F'|' -v name="$1-" -v before="$2" 'index($6, name) == 1 && substr($6, length(name) + 1) + 0 < before { print $2, substr($6, length(name) + 1) }' |
            while read -r state number; do holds_nodes "$state" && printf '%s ' "$number"; done)
        [ -n "$living" ] || return 0
        # Its keeper had the time that a release has.
        [ "$tries" -ne 40 ] || for one in $living; do end_job "$state_dir/$1/$one" hard; done
        tries=$((tries + 1))
        sleep 0.25 2>/dev/null || sleep 1
    done
}

has_room() { # has_room DIR: for what the keeper and its services are going to write there, beside their logs
    { dd if=/dev/zero of="$1/room" bs=4096 count=8; } 2>/dev/null && [ "$(wc -c <"$1/room")" -eq 32768 ] || {
        rm -f "$1/room"
        return 1
    }
    rm -f "$1/room"
}

place_of() { sed -n 's/.*[^\\]"deployment": "\([A-Za-z0-9_.:-]*\)".*/\1/p'; }
is_foreign() { # is_foreign DIR; set: about. Another Airflow with our mark, such as a clone, asked for it
    theirs=$(place_of 2>/dev/null <"$1/about") || return 1
    ours=$(printf '%s\n' "$about" | place_of)
    [ -n "$theirs" ] && [ -n "$ours" ] && [ "$theirs" != "$ours" ]
}

submit() { # submit NAME TOKEN AFTER; set: keeper keeper_length about services secrets (functions that fill DIR) request (a function: sbatch…)
    # AFTER: the incarnation that a follow-up is for, which goes on; 0 for none.
    mkdir -p "$state_dir" 2>/dev/null && [ -w "$state_dir" ] || {
        no_room "$state_dir"
        return
    }
    check_folder || return 0
    # Only what has our names: the folder may hold other things too.
    find "$state_dir" -mindepth 3 -maxdepth 3 -path "$state_dir/ab-*/[0-9]*/ended" -mtime +7 2>/dev/null |
        while read -r old; do rm -rf "${old%/ended}"; done
    find "${TMPDIR:-/tmp}" "$state_dir" -mindepth 1 -maxdepth 1 -type d -name 'airflow-brayns.*' -user "$(id -un)" -mmin +120 \
        -exec rm -rf {} + 2>/dev/null # of commands that were killed
    find "$state_dir" -mindepth 1 -maxdepth 1 -type d -name 'ab-*' -mtime +7 -empty -exec rmdir {} + 2>/dev/null
    locked "$1" || {
        if [ -d "$state_dir/$1/.lock" ]; then
            printf 'busy another command is submitting %s\n' "$1"
        else
            no_room "$state_dir"
        fi
        return
    }
    n=$(latest "$1")
    dir=$state_dir/$1/$n
    if [ "$n" -gt "$3" ] && [ ! -e "$dir/release" ] && [ ! -e "$dir/ending" ] && [ ! -e "$dir/ended" ] && [ ! -e "$dir/cancelled" ]; then
        job=$(find_job "$dir") || {
            printf 'unsure %s\n' "$(coded <"$errors")"
            return
        }
        state=$(printf '%s' "$job" | cut -d'|' -f2)
        if [ -n "$job" ] && holds_nodes "$state" && is_foreign "$dir"; then
            printf 'foreign %s\n' "$theirs"
            return
        elif [ -n "$job" ] && holds_nodes "$state" && [ "$(first "$dir/asked")" = "$asked" ]; then
            [ -e "$dir/job" ] || put "$dir/job" "$(printf '%s' "$job" | awk -F'|' '{ print $1, $7 }')"
            refresh "$dir/lease" "$(now)"
            take_over "$dir" "$2" && {
                [ "$3" -ne 0 ] || end_earlier "$1" "$n"
                report_job "$dir" "$n" 1
                return
            }
        elif [ -z "$job" ] && [ ! -e "$dir/job" ] && [ $(($(now) - $(first "$dir/attempt"))) -lt 60 ]; then
            printf 'unsure %s\n' "$(printf 'a submission whose answer was lost may still arrive' | coded)"
            return
        fi
    fi
    [ "$3" -ne 0 ] || end_earlier "$1" $((n + 1)) # whatever comes of them now, they must not start
    n=$((n + 1))
    dir=$state_dir/$1/$n
    # Before anything starts: what is not whole, or has no room for what a keeper writes, is taken away again.
    if ! { mkdir -p "$dir/services" 2>/dev/null && write "$dir/keeper.sh" "$keeper_length" "$keeper" && put "$dir/about" "$about" &&
        put "$dir/asked" "$asked" && make "$dir/owner.$2" && services && secrets && put "$dir/lease" "$(now)" && has_room "$dir"; }; then
        rm -rf "$dir"
        no_room "$state_dir"
        return
    fi
    [ "$3" -ne 0 ] || await_earlier "$1" "$n"
    if ! { refresh "$dir/lease" "$(now)" && put "$dir/attempt" "$(now)" && [ "$(wc -c <"$dir/keeper.sh")" -eq "$keeper_length" ]; }; then
        rm -rf "$dir"
        no_room "$state_dir"
        return
    fi
    if [ "$scheduler" = local ]; then
        apart=setsid
        command -v setsid >/dev/null 2>&1 || apart=
        # Whoever submits may be an Airflow worker, whose environment holds its secrets.
        env -i ${HOME:+"HOME=$HOME"} ${USER:+"USER=$USER"} ${LOGNAME:+"LOGNAME=$LOGNAME"} ${PATH:+"PATH=$PATH"} \
            ${SHELL:+"SHELL=$SHELL"} ${LANG:+"LANG=$LANG"} ${TZ:+"TZ=$TZ"} ${TMPDIR:+"TMPDIR=$TMPDIR"} \
            ${LD_LIBRARY_PATH:+"LD_LIBRARY_PATH=$LD_LIBRARY_PATH"} ${BRAYNS_EMULATOR:+"BRAYNS_EMULATOR=$BRAYNS_EMULATOR"} \
            $apart sh "$dir/keeper.sh" "$dir" </dev/null >"$dir/keeper.log" 2>&1 &
        put "$dir/job" "$! $(process_started $!)" || {
            kill -TERM $! 2>/dev/null # else it would be one that nobody knows of
            put "$dir/release" "$(now)"
            no_room "$state_dir"
            return
        }
        report_job "$dir" "$n" 0
        return
    fi
    id=$(request "$1-$n" "$dir" 2>"$errors")
    code=$?
    id=${id%%;*}
    case $id in
    '' | *[!0-9]*)
        if [ "$code" -eq 124 ] || grep -qiE 'timed out|unable to contact|connection refused|communication|zero bytes|temporarily' "$errors"; then
            printf 'unsure %s\n' "$(coded <"$errors")"
        else
            put "$dir/release" "$(now)"
            put "$dir/ended" "refused"
            printf 'refused %s %s\n' "$code" "$(coded <"$errors")"
        fi
        return
        ;;
    esac
    submitted=$(at_most 20 squeue -h -j "$id" -o %V 2>/dev/null)
    put "$dir/job" "$id $submitted" || {
        at_most 20 scancel --name="$1-$n" "$id"
        put "$dir/release" "$(now)"
        no_room "$state_dir"
        return
    }
    [ ! -e "$dir/release" ] || end_job "$dir" hard # given back while sbatch was at work
    report_job "$dir" "$n" 0
}

# ---- looking ------------------------------------------------------------------------------------------------------------

describe() { # describe NAME N LEASE: everything the folder of an allocation tells; LEASE 1: somebody waits for it
    dir=$state_dir/$1/$2
    ls "$dir" "$dir"/services/*/ >/dev/null 2>&1
    printf 'allocation %s %s\n' "$1" "$2"
    is_ours "$dir" || { # what somebody else put in its place is not believed
        printf 'gone\n'
        return
    }
    [ "$3" = 1 ] && [ ! -e "$dir/ended" ] && refresh "$dir/lease" "$(now)"
    printf 'job %s\n' "$(first "$dir/job")"
    [ -e "$dir/claim/nodes" ] && printf 'nodes %s\n' "$(first "$dir/claim/nodes")"
    [ -e "$dir/release" ] && printf 'released\n'
    [ -e "$dir/ending" ] && printf 'ending %s\n' "$(coded <"$dir/ending")"
    [ -e "$dir/ended" ] && printf 'ended %s\n' "$(coded <"$dir/ended")"
    printf 'heartbeat %s\n' "$(first "$dir/heartbeat")"
    [ "$3" = 1 ] || [ ! -e "$dir/heartbeat" ] || printf 'silent %s\n' "$(age_of "$dir/heartbeat")"
    for one in "$dir"/owner.*; do [ -e "$one" ] && printf 'owner %s\n' "${one##*/owner.}"; done
    for one in "$dir"/services/*/; do
        one=${one%/}
        [ -e "$one/command" ] || continue
        printf 'service %s\n' "${one##*/}"
        for key in node listening pid; do [ -e "$one/$key" ] && printf '%s %s\n' "$key" "$(first "$one/$key")"; done
        [ -e "$one/exit" ] && printf 'exit %s\n' "$(coded <"$one/exit")"
    done
}

age_of() { # age_of FILE: seconds since it was written
    written=$(stat -c %Y "$1" 2>/dev/null)
    printf '%s' $(($(now) - ${written:-0}))
}

is_ours() { # is_ours FOLDER: it is there, and nobody else's
    [ -d "$1" ] && [ -O "$1" ] && [ -O "$state_dir" ]
}

certificate() { # certificate NAME N: what the allocation's services prove themselves with
    file=$state_dir/$1/$2/tls/cert.pem
    ! is_ours "$state_dir/$1/$2" || [ ! -O "$file" ] || printf 'certificate %s %s %s\n' "$1" "$2" "$(coded <"$file")"
}

certificate_at() { # certificate_at NODE PORT: of whatever service of ours listens there; NODE may be nothing, for any
    for one in "$state_dir"/ab-*/[0-9]*/services/*/listening; do
        [ -e "$one" ] && [ "$(first "$one")" = "$2" ] || continue
        one=${one%/listening}
        [ ! -e "$one/exit" ] || continue
        [ -z "$1" ] || [ "$(first "$one/node")" = "$1" ] || continue
        one=${one%/services/*}
        [ ! -e "$one/ended" ] || continue
        owner_name=${one%/*}
        certificate "${owner_name##*/}" "${one##*/}"
    done
}

# ---- a service that is in use: which one, and what has become of it -------------------------------------------------------

service_at() { # service_at NODE PORT: which service of ours listens, or listened last, there; NODE may be nothing, for any
    best=
    best_lives=
    for one in "$state_dir"/ab-*/[0-9]*/services/*/listening; do
        line=
        [ -e "$one" ] && IFS= read -r line <"$one"
        [ "$line" = "$2" ] || continue
        one=${one%/listening}
        is_ours "$one" || continue
        line=
        [ -e "$one/node" ] && IFS= read -r line <"$one/node"
        [ -z "$1" ] || [ "$line" = "$1" ] || continue
        lives=
        [ -e "$one/exit" ] || [ -e "${one%/services/*}/ended" ] || lives=yes
        if [ -n "$best" ] && [ "$lives" = "$best_lives" ]; then # the later one
            # shellcheck disable=SC2012 # names of ours
            [ "$(ls -td "$one/listening" "$best/listening" | head -n 1)" = "$one/listening" ] || continue
        elif [ -n "$best" ] && [ -z "$lives" ]; then
            continue
        fi
        best=$one
        best_lives=$lives
    done
    [ -n "$best" ] || return 0
    set -- "$best"
    owner_name=${1%/*/services/*}
    number=${1%/services/*}
    printf 'at %s %s %s\n' "${owner_name##*/}" "${number##*/}" "${1##*/}"
}

examine() { # examine NAME N SERVICE SCRIPT: what its folder and the scheduler tell, its last lines, and what SCRIPT says on its node
    set -- "$1" "$2" "$3" "$4" "$state_dir/$1/$2"
    describe "$1" "$2" 1
    printf 'folder %s\n' "$(printf '%s' "$5" | coded)"
    [ ! -e "$5/keeper.sh" ] || printf 'idle %s\n' "$(sed -n '/^idle_limit=/{s/^idle_limit=//p;q;}' "$5/keeper.sh")"
    [ ! -e "$5/services/$3/port" ] || printf 'asked %s\n' "$(first "$5/services/$3/port")"
    [ ! -e "$5/services/$3/log" ] || printf 'tail %s\n' "$(tail -c 8192 "$5/services/$3/log" | tail -n 20 | coded)"
    look_at_jobs "$5"
    # While neither its end nor the job's is known.
    if [ -n "$4" ] && [ -e "$5/services/$3/listening" ] && [ ! -e "$5/services/$3/exit" ] && [ ! -e "$5/ended" ]; then
        id=$(first "$5/job")
        step "${id%% *}" 5 "$([ "$scheduler" = local ] || first "$5/services/$3/node")" "service_dir='$(printf '%s' "$5/services/$3" | sed "s/'/'\\\\''/g")'
$4"
    fi
}

renew() { # renew NAME N: somebody uses it
    if [ -d "$state_dir/$1/$2" ] && [ ! -e "$state_dir/$1/$2/ended" ]; then
        if refresh "$state_dir/$1/$2/lease" "$(now)"; then printf 'used\n'; else no_room "$state_dir"; fi
    fi
}

log_since() { # log_since NAME N SERVICE OFFSET: new bytes of a service's log, at most 64 KiB
    file=$state_dir/$1/$2/services/$3/log
    [ -e "$file" ] || return 0
    size=$(wc -c <"$file")
    [ "$size" -gt "$4" ] || return 0
    printf 'log %s %s %s %s %s\n' "$1" "$2" "$3" "$4" "$(tail -c "+$(($4 + 1))" "$file" | head -c 65536 | coded)"
}

all_logs() { # all_logs NAME N: from the beginning, for whoever knows nothing yet
    for log in "$state_dir/$1/$2"/services/*/log; do
        [ -e "$log" ] || continue
        log=${log%/log}
        log_since "$1" "$2" "${log##*/}" 0
    done
}

progress_of() { # progress_of NAME N WANT: how many things have happened that a waiter wants to hear of at once
    set -- "$state_dir/$1/$2" "$3"
    happened=0
    for one in "$1/claim/nodes" "$1/ended" "$1"/services/*/exit; do
        [ -e "$one" ] && happened=$((happened + 1))
    done
    up=0
    for one in "$1"/services/*/listening; do
        [ -e "$one" ] && up=$((up + 1))
    done
    [ "$up" -ge "$2" ] && happened=$((happened + up))
    printf '%s' "$happened"
}

await_news() { # await_news SECONDS TICK "NAME N WANT KNOWN"...: returns early when something has happened
    until=$(($(now) + $1))
    tick=$2
    shift 2
    while [ "$(now)" -lt "$until" ]; do
        for waiter in "$@"; do
            # shellcheck disable=SC2086 # four words, made by us
            set_waiter $waiter || return 0
        done
        sleep "$tick" 2>/dev/null || sleep 1
    done
}

set_waiter() { # fails when NAME N WANT shows another count than KNOWN
    [ -d "$state_dir/$1/$2" ] && ls "$state_dir/$1/$2" "$state_dir/$1/$2"/services/*/ >/dev/null 2>&1
    [ "$(progress_of "$1" "$2" "$3")" = "$4" ]
}

look_at_jobs() { # look_at_jobs DIR...: the scheduler's word, or its error; an error is not an empty answer
    if answer=$(jobs_of "$@"); then
        [ -z "$answer" ] || printf '%s\n' "$answer" | sed 's/^/queue /'
        printf 'answered\n'
    else
        printf 'silent %s\n' "$(coded <"$errors")"
    fi
}

# ---- driving: one renders with an allocation's services, or with one service, at a time -----------------------------------
# `driver.<token>` says who; it is made and renamed by `drive` only, so that a driver which was taken over never comes back.
# PLACE is `N` for an allocation, `N/services/SERVICE` for one of its services. A service that runs in no allocation of ours has a
# folder `at-…/1` of its own. BY is for which movie, in base64: the next try of the same takes over, another one has to wait.

driven_by_another() { # driven_by_another DIR BY: "SECONDS BY" of another movie that was heard of lately: here, above or below
    for one in "$1/driven" "$1"/services/*/driven "${1%/services/*}/driven"; do
        told='' at='' by=''
        [ -e "$one" ] && read -r told at by <"$one"
        [ -n "$by" ] && [ "$by" != "$2" ] && [ -e "${one%/driven}/driver.$told" ] || continue
        at=$(($(now) - at))
        [ "$at" -lt 20 ] || continue # as long as a driver that cannot confirm goes on
        printf '%s %s' "$at" "$by"
        return 0
    done
    return 1
}

drive() { # drive NAME PLACE TOKEN BY: take it over; tells how many seconds ago the driver before was heard of
    dir=$state_dir/$1/$2
    case $1 in at-*)
        find "$state_dir" -mindepth 3 -maxdepth 3 -path "$state_dir/at-*/1/driven" -mtime +1 2>/dev/null |
            while read -r old; do rm -rf "${old%/1/driven}"; done # nobody has confirmed these for a day
        mkdir -p "$dir"
        ;;
    esac
    [ -d "$dir" ] && [ ! -e "${dir%/services/*}/ended" ] || return 0
    if another=$(driven_by_another "$dir" "$4"); then
        printf 'occupied %s %s %s\n' "$1" "$2" "$another"
        return
    fi
    heard=-1
    for one in "$dir"/driver.*; do
        [ -e "$one" ] || continue
        [ "$one" != "$dir/driver.$3" ] || continue
        last=$(first "$dir/driven")
        at=${last#* }
        [ "${last%% *}" != "${one##*/driver.}" ] || heard=$(($(now) - ${at%% *}))
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

step() { # step JOB SECONDS NODE SCRIPT: on a node of the job, its output here; the node's own shell reads it on stdin
    id=$1
    seconds=$2
    node=$3
    text=$4
    # srun, too, takes the whole environment to the node.
    set -- env -i ${HOME:+"HOME=$HOME"} ${USER:+"USER=$USER"} ${LOGNAME:+"LOGNAME=$LOGNAME"} ${PATH:+"PATH=$PATH"} \
        ${TMPDIR:+"TMPDIR=$TMPDIR"} ${SLURM_CONF:+"SLURM_CONF=$SLURM_CONF"}
    [ "$scheduler" != slurm ] || set -- "$@" srun --overlap --jobid="$id" -N1 -n1 ${node:+-w "$node"}
    printf '%s\n' "$text" | at_most "$seconds" "$@" /bin/sh -s 2>"$errors" || printf '\nfailed %s\n' "$(tail -n 3 "$errors" | coded)"
}

# ---- giving back ----------------------------------------------------------------------------------------------------------

release() { # release NAME N SECONDS: `release` file, the keeper's grace, then the job's end; already gone is success
    dir=$state_dir/$1/$2
    [ -d "$dir" ] || {
        printf 'released %s %s gone\n' "$1" "$2"
        return
    }
    until=$(($(now) + $3))
    last=$((until + 20))
    hurried=
    put "$dir/release" "$(now)" || [ -e "$dir/release" ] || until=0 # who cannot be told is ended
    while :; do
        job=$(find_job "$dir") || {
            printf 'silent %s\n' "$(coded <"$errors")"
            return
        }
        state=$(printf '%s' "$job" | cut -d'|' -f2)
        if [ -z "$job" ] || is_over "$state"; then
            if [ -e "$dir/job" ] || [ -e "$dir/claim" ] || [ -e "$dir/ended" ] || [ $(($(now) - $(first "$dir/attempt"))) -gt 60 ]; then
                rm -f "$dir/tls/key.pem"
                [ -e "$dir/ended" ] || put "$dir/ended" "released"
                printf 'released %s %s done\n' "$1" "$2"
            else # its submission may still arrive; the keeper will find `release` and exit at once
                printf 'released %s %s announced\n' "$1" "$2"
            fi
            return
        fi
        if [ "$(now)" -ge "$until" ] || [ "$state" = PENDING ]; then
            [ "$hurried" = hard ] || end_job "$dir" hard
            hurried=hard
        elif [ -z "$hurried" ]; then
            end_job "$dir" soft
            hurried=soft
        fi
        if [ "$(now)" -ge "$last" ]; then
            printf 'released %s %s %s\n' "$1" "$2" "still $state"
            return
        fi
        sleep 0.2 2>/dev/null || sleep 1
    done
}

reap() { # reap NAME N OWNER SECONDS: give one incarnation back, unless somebody has taken it over since it was looked at
    if [ -n "$3" ] && [ ! -e "$state_dir/$1/$2/owner.$3" ]; then
        printf 'taken %s %s\n' "$1" "$2"
    else
        release "$1" "$2" "$4"
    fi
}

end_named() { # end_named ID NAME: a job of ours that has no folder, or one that has ended; not one submitted since it was looked at
    folder=$state_dir/${2%-*}/${2##*-}
    if [ -d "$folder" ] && [ ! -e "$folder/ended" ]; then
        printf 'taken %s\n' "$2"
    elif [ "$scheduler" = slurm ] && [ -n "$1" ]; then
        at_most 20 scancel --name="$2" "$1"
    fi
}

cancel() { # cancel NAME N TOKEN: only its owner may; quick, since a killed task has four seconds
    dir=$state_dir/$1/$2
    # Where nothing can be renamed it is still its owner's.
    if [ -d "$dir" ] && { mv "$dir/owner.$3" "$dir/cancelled" 2>/dev/null || [ -e "$dir/owner.$3" ]; }; then
        put "$dir/release" "$(now)"
        end_job "$dir" hard
        rm -f "$dir/tls/key.pem"
        printf 'cancelled %s %s\n' "$1" "$2"
    else
        printf 'foreign %s %s\n' "$1" "$2"
    fi
}

cancel_all() { # cancel_all NAME TOKEN: all that TOKEN owns under names that begin so; a submission under way is awaited
    tries=0
    while :; do
        for folder in "$state_dir/$1"*/[0-9]*/; do
            folder=${folder%/}
            [ -e "$folder/owner.$2" ] && [ ! -e "$folder/ended" ] || continue
            owner_name=${folder%/*}
            cancel "${owner_name##*/}" "${folder##*/}" "$2"
        done
        set -- "$1" "$2" "$state_dir/$1"*/.lock
        [ -e "$3" ] && [ "$tries" -lt 15 ] || break
        set -- "$1" "$2"
        tries=$((tries + 1))
        sleep 0.2 2>/dev/null || sleep 1
    done
}

release_all() { # release_all NAME SECONDS: every incarnation of all names that begin so; all are told before any is awaited
    for folder in "$state_dir/$1"*/[0-9]*/; do
        folder=${folder%/}
        [ -d "$folder" ] || continue
        printf 'found %s\n' "$folder"
        [ ! -e "$folder/release" ] || continue
        give_up "$folder"
    done
    ended=
    for folder in "$state_dir/$1"*/[0-9]*/; do [ ! -e "${folder}ended" ] || ended=yes; done
    # Once for all: a controller that does not answer takes its time each time.
    queued=
    [ -z "$ended" ] || [ "$scheduler" != slurm ] || queued=$(jobs_of) || queued=
    for folder in "$state_dir/$1"*/[0-9]*/; do
        folder=${folder%/}
        [ -d "$folder" ] || continue
        [ ! -e "$folder/ended" ] || still_holds "$folder" || continue
        owner_name=${folder%/*}
        release "${owner_name##*/}" "${folder##*/}" "$2"
    done
}

still_holds() { # still_holds DIR: its keeper has ended, and Slurm was not told: who tells it (slurmstepd) was killed
    name=$(basename "$(dirname "$1")")-$(basename "$1")
    holds_nodes "$(printf '%s\n' "$queued" | awk -F'|' -v name="$name" '$6 == name { state = $2 } END { print state }')"
}

add_service() { # add_service NAME N SERVICE; set: fill (a function that writes the command beside $service_dir)
    dir=$state_dir/$1/$2
    service_dir=$dir/services/$3
    if [ ! -d "$dir" ] || [ -e "$dir/ended" ] || [ -e "$dir/release" ]; then
        printf 'ended %s\n' "$(printf 'the allocation %s/%s has ended' "$1" "$2" | coded)"
        return
    fi
    check_folder || return 0
    if [ -e "$service_dir/command" ]; then
        printf 'present %s\n' "$3"
        return
    fi
    if ! { mkdir -p "$service_dir" 2>/dev/null && fill; }; then
        rm -rf "$service_dir"
        no_room "$state_dir"
        return
    fi
    end_job "$dir" soft
    printf 'added %s\n' "$3"
}

stop_service() { # stop_service NAME N SERVICE
    dir=$state_dir/$1/$2
    service_dir=$dir/services/$3
    if [ -d "$dir" ] && [ ! -d "$service_dir" ]; then # never started: not the same as ended
        printf 'absent %s\n' "$3"
        return
    fi
    if [ -d "$service_dir" ] && [ ! -e "$service_dir/exit" ] && [ ! -e "$dir/ended" ]; then
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

list_all() { # every allocation in the state folder that has not ended
    for folder in "$state_dir"/ab-*/[0-9]*/; do
        folder=${folder%/}
        [ -d "$folder" ] && [ ! -e "$folder/ended" ] || continue
        name=${folder%/*}
        describe "${name##*/}" "${folder##*/}" 0
        printf 'about %s\n' "$(coded <"$folder/about" 2>/dev/null)"
    done
}

post_mortem() { # post_mortem NAME N: what the keeper wrote, and sacct where there is one
    dir=$state_dir/$1/$2
    printf 'keeper %s\n' "$(tail -n 20 "$dir/keeper.log" 2>/dev/null | coded)"
    if [ "$scheduler" = slurm ] && command -v sacct >/dev/null 2>&1; then
        id=$(first "$dir/job")
        printf 'sacct %s\n' "$(at_most 10 sacct -X -n -P -j "${id%% *}" -o State,ExitCode,Reason 2>/dev/null | coded)"
    fi
}

lock=
errors=/dev/null
scratch=
for one in "${TMPDIR:-/tmp}" "$state_dir" /dev/shm /var/tmp; do # a full /tmp must not keep nodes
    scratch=$(mktemp -d "$one/airflow-brayns.XXXXXX" 2>/dev/null) || continue
    if put "$scratch/errors" "" ; then
        errors=$scratch/errors
        break
    fi
    rm -rf "$scratch"
    scratch=
done
trap '[ -z "$scratch" ] || rm -rf "$scratch"; [ -z "$lock" ] || rmdir "$lock" 2>/dev/null' EXIT
trap 'exit 143' TERM HUP INT PIPE # PIPE: whoever asked has gone
