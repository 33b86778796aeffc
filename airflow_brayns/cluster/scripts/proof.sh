# What is to be run is proved first: by digests that came with the keeper, or lie beside it.
# Shared: index asked patterns, as they were read.
unproved="is not what was written for it: it was cut off, or somebody changed it. Nothing of it was run; make room in the state folder, or see who may write there"

digest() { # it prints the digest of its input
    if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi 2>/dev/null | cut -d' ' -f1
}

proof_of() { printf '%s\n' "$proofs" | awk -v name="$1" '$1 == name { print $2; exit }'; }

digest_of_line() { if [ -n "$1" ]; then printf '%s\n' "$1"; fi | digest; }

is_proved() { # is_proved SERVICE COMMAND: what was read is whole, and what was written by whoever asked for the service
    local wanted part found
    wanted=$(proof_of "$1")
    [ -n "$wanted" ] || wanted=$(first "$dir/services/$1/proof") # it was added later
    if [ -z "$wanted" ]; then [ "$shared" != yes ] || return 1; return 0; fi # 0.2.0 writes none
    for part in "$dir" "$dir/services" "$dir/services/$1" "$dir/services/$1/command"; do
        [ -O "$part" ] && [ ! -L "$part" ] || return 1
    done
    found=$(printf '%s  command\n%s  index\n%s  port\n%s  port.sed\n' "$(digest <"$2")" \
        "$(digest_of_line "$index")" "$(digest_of_line "$asked")" "$(digest_of_line "$patterns")" | digest)
    [ "$found" = "$wanted" ]
}

read_service() { # read_service SERVICE COMMAND: sets index asked patterns; fails when they or the command are not proved
    local tries
    tries=0
    while :; do
        index=$(cat "$dir/services/$1/index" 2>/dev/null)
        asked=$(cat "$dir/services/$1/port" 2>/dev/null)
        patterns=$(cat "$dir/services/$1/port.sed" 2>/dev/null)
        is_proved "$1" "$2" && return 0
        tries=$((tries + 1))
        [ "$tries" -lt 4 ] || return 1
        nap 1 # a late file system has a few seconds
        ls "$dir/services/$1" >/dev/null 2>&1
    done
}

prove_tls() {
    local wanted
    wanted=$(proof_of /tls)
    [ -z "$wanted" ] || [ "$(cat "$dir/tls/cert.pem" "$dir/tls/key.pem" 2>/dev/null | digest)" = "$wanted" ]
}
