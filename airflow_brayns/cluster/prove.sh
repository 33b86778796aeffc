# Whose socket listens on a service's port, asked on its node. POSIX sh. Set above this line: service_dir.
# Prints `socket ours`; `socket gone` where its processes have ended; else `socket strange` and who listens there.
whole() { case $1 in '' | *[!0-9]*) return 1 ;; esac; }

ls "$service_dir" >/dev/null 2>&1
pid=
port=
read -r pid <"$service_dir/pid" 2>/dev/null
read -r port <"$service_dir/listening" 2>/dev/null
if whole "$pid" && whole "$port"; then
    hex=$(printf '%04X' "$port")
    sockets=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v port=":$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { print $10 ":" $8 }' | sort -u)
    # Every process of the service's session, but for those that have ended and are not taken note of yet.
    session=$(cat /proc/[0-9]*/stat 2>/dev/null |
        awk -v session="$pid" '{ pid = $1; sub(/^.*\) /, ""); if (($4 == session || pid == session) && $1 != "Z") print pid }')
    held=$(for one in $session; do ls -l "/proc/$one/fd" 2>/dev/null; done)
    ours=
    strangers=
    for one in $sockets; do
        case $held in
        *"socket:[${one%:*}]"*) ours=yes ;;
        *) strangers="$strangers $(id -nu "${one#*:}" 2>/dev/null || printf 'uid %s' "${one#*:}")" ;;
        esac
    done
    if [ -z "$session" ]; then
        printf 'socket gone%s\n' "$strangers"
    elif [ -n "$ours" ] && [ -z "$strangers" ]; then
        printf 'socket ours\n'
    else
        printf 'socket strange%s\n' "$strangers"
    fi
fi
