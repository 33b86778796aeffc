# A node on which a service failed is remembered for a day: STATE/failures/NODE/NAME-N says why. Who is at fault is judged later.

note_failure() { # note_failure DIR SERVICE WHY [KIND]: of an allocation's folder; what the node is called there is no path
    local node name folder kind
    node=$(first "$1/services/$2/node")
    case $node in '' | [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) return 0 ;; esac
    [ "$scheduler" = slurm ] && [ -s "$1/services/$2/port.sed" ] || return 0 # a slot is no node, and a step no service
    name=${1%/*}
    folder=${name%/*}/failures/$node
    kind=${4-}
    [ -n "$kind" ] || [ ! -e "$1/services/$2/listening" ] || kind=run
    mkdir -p "$folder" 2>/dev/null && put "$folder/${name##*/}-${1##*/}" "${kind:-start} $3" || :
}

note_end() { # note_end SERVICE: it has ended, and nobody had asked it to. 94: its files were not whole, which is no node's fault
    local ended
    ended=$(first "$dir/services/$1/exit")
    case $ended in '' | '0 '* | '94 '*) ;; *) note_failure "$dir" "$1" "${ended#* }" ;; esac
}

note_silent() { # those that should listen by now
    local one
    for one in "$dir"/services/*/; do
        one=${one%/}
        [ -e "$one/node" ] && [ ! -e "$one/exit" ] && [ ! -e "$one/listening" ] || continue
        [ "$(age_of "$one/node")" -lt "$start_timeout" ] || note_failure "$dir" "${one##*/}" "it did not listen within $start_timeout s"
    done
}
