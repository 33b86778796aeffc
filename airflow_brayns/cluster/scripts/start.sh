# The service's command starts below a login shell, whose start files are its account's own.
# Shared: service_pid background login.

# What start files have set or said (perhaps half a line), and where they send it, is not the command's; without a login shell the
# modules are still /etc/profile's.
# shellcheck disable=SC2016 # for the shell on the node
begin='{ : >>"${1%/*}/log"; } 2>/dev/null && exec </dev/null >>"${1%/*}/log" 2>&1
command -p rm -f -- "$1"; shift; [ ! -s /dev/fd/1 ] || echo; set +eufvxnC; set +o pipefail; trap - EXIT ERR DEBUG RETURN
unset IFS
shopt -q login_shell || [ ! -r /etc/profile ] || . /etc/profile
export AB_BEGUN=yes
. "$0"'

start_service() { # start_service COMMAND: the lock on its port (8) is ours alone; by these names, what it starts is known for its own
    local apart
    apart=setsid
    command -v setsid >/dev/null 2>&1 || apart=
    # Whatever kills this wrapper may have killed the keeper, and Slurm's own watch over the step; then nobody is left to end the service.
    ! setpriv --pdeathsig KILL true 2>/dev/null || apart="setpriv --pdeathsig KILL $apart"
    background=
    { printf '' >"$service_dir/starting"; } 2>/dev/null # the command takes it away
    AB_PORT=$port_given AB_FOLDER=$dir AB_SERVICE=$service AB_JOB=$own $apart bash $login -c "$begin" "$1" "$service_dir/starting" \
        >>"$service_dir/log" 2>&1 </dev/null 8>&- &
    service_pid=$!
    put "$service_dir/pid" "$service_pid"
}

never_began() { [ -e "$service_dir/starting" ]; }

without_start_files() { # start files (~/.bash_profile) ended the shell, or put another one in its place: it is to be started without them
    never_began && [ "$login" = -l ] || return 1
    login=--noprofile
    printf '%s\n' "airflow-brayns: the start files of $(id -un) (~/.bash_profile) ended the shell before the command, or put another in" \
        "its place; they may do so only for people, where \$- has an i. It is started with /etc/profile alone." >>"$service_dir/log"
}

goes_on() { # whether it has put itself into the background, as a daemon does; it may be about to
    local tries found
    tries=0
    while [ "$tries" -lt 5 ] && [ -n "$(service_pids)" ]; do
        if found=$(heir); then
            service_pid=$found
            background=yes
            put "$service_dir/pid" "$service_pid"
            return 0
        fi
        nap 0.2
        tries=$((tries + 1))
    done
    return 1
}
