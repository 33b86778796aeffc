# Encodes where the frames are, in a step on a node, and gives the movie and its pictures their names when all of it is made.
# bash, as every command in an allocation is (`bash -l`).
# Set above: ffmpeg proved, and below ffmpeg.sh; of the frames: folder format digits first last step count, and sums (empty where nothing is known of them); of the
# movie: rate metadata codec (an array) parent movie movie_part kept; poster_of poster poster_part, sheet_step sheet sheet_part;
# what is not wanted is empty; of what is drawn over the frames: drawn (an archive) drawn_sha256 drawn_poster, layers (an array, ffmpeg's inputs).
# Of its part files: stem (as `find` matches it) and whose. silent_minutes; changed, unproved and undrawn, exit codes.
# Shared: parts beat before rest drawn_in.
set -euo pipefail

encoder() { "$ffmpeg" -hide_banner -nostdin -xerror "$@" </dev/null; }

remove() { # remove TEST...: files beside the movie
    find "$parent" -maxdepth 1 -type f "$@" -exec rm -f {} + 2>/dev/null || true
}

remove_leftovers() { # of killed writers of the same movie: at once what an earlier try of this one left
    remove -name ".$stem.*$whose-*.part.*"
    remove -name ".$stem.*.part.*" ! -name '*.part.fetch.*' -mmin "+$silent_minutes"
    remove -name ".$stem.*.part.fetch.*" -mtime +7
    remove -name ".$stem.part.*" -mmin "+$silent_minutes"
}

keep_fresh() { # says by the part files' time that their writer lives
    trap 'kill $rest; exit' TERM
    while :; do
        sleep 20 &
        rest=$!
        wait $rest
        touch -c -- "${parts[@]}"
    done
}

names() { seq -f "%0$digits.0f.$format" "$first" "$step" "$last"; }

seen() { # what the frames are; one that is missing is told by its sum
    { names | xargs stat -c '%n %i %s %y' 2>&1 || true; } | sha256sum
}

refuse() {
    echo frames changed
    exit "$changed"
}

look_at_frames() {
    cd "$folder"
    before=$(seen)
    [ "$(names | xargs sha256sum 2>/dev/null | sha256sum | cut -d' ' -f1)" = "$sums" ] || {
        # To a time in no second of today's: the next survey reads them, though size and time were as they should be.
        names | xargs touch -c -t 200001010000
        refuse
    }
}

unpack_drawn() { # what is drawn over the frames, into drawn_in, where ffmpeg runs
    local place
    for _ in {1..60}; do # a shared file system may show a new file late
        ls -a "$folder" >/dev/null
        [ ! -f "$drawn" ] || break
        sleep 1
    done
    case $(sha256sum <"$drawn") in "$drawn_sha256"*) ;; *) return 1 ;; esac
    for place in "${TMPDIR:-/tmp}" /dev/shm /var/tmp; do
        drawn_in=$(mktemp -d "$place/airflow-brayns.XXXXXX" 2>/dev/null) || continue
        if tar -xzof "$drawn" -C "$drawn_in"; then return 0; fi
        rm -rf "$drawn_in"
    done
    drawn_in=
    return 1
}

share() { # tenths of the frames that are encoded, from ffmpeg's progress
    awk -F= -v total="$count" '
        $1 == "frame" {
            tenths = int(10 * $2 / total)
            if (tenths > told) { told = tenths; print $2 " of " total " frames encoded"; fflush() }
        }'
}

frames() { # into ffmpeg: the frames that its pattern cannot name, one behind the other
    [ "$step" = 1 ] || (cd "$folder" && names | xargs cat)
}

encode() { # to ffmpeg the whole path is a pattern, the folder's name too
    local from
    from=(-start_number "$first" -i "${folder//%/%%}/%0${digits}d.$format")
    [ "$step" = 1 ] || from=(-f image2pipe -i pipe:0)
    frames | (
        cd "${drawn_in:-/}"
        exec "$ffmpeg" -hide_banner -nostdin -xerror -v error -stats_period 2 -progress pipe:1 -nostats \
            -framerate "$rate" "${from[@]}" -f ffmetadata -i /dev/fd/3 ${layers[@]+"${layers[@]}"} \
            -map_metadata 1 -frames:v "$count" "${codec[@]}" -y "$movie_part"
    ) 3<<<"$metadata" | share
}

draw_pictures() {
    local over
    over=()
    [ -z "$drawn_in" ] || over=(-f png_pipe -i "$drawn_in/$drawn_poster" -filter_complex '[0:v][1:v]overlay=format=rgb')
    [ -z "$poster" ] || encoder -v error -y -i "$poster_of" ${over[@]+"${over[@]}"} -update 1 -q:v 2 "$poster_part"
    [ -z "$sheet" ] || encoder -v error -y -i "$movie_part" -vf "select='not(mod(n,$sheet_step))',scale=400:-2,tile=4x4" \
        -frames:v 1 -update 1 -q:v 3 "$sheet_part"
}

tell_movie() { # what ffmpeg finds in it, and its sum and size
    encoder -v info -nostats -progress pipe:1 -i "$movie_part" -map 0:v:0 -fps_mode passthrough -f null - 2>&1 |
        grep -E '^frame=|Duration:|Stream #0:[0-9]+.*Video:' | tail -n 6
    [ -z "$sums" ] || [ "$(seen)" = "$before" ] || refuse
    printf 'sha256 %s %s\n' "$(sha256sum <"$movie_part" | cut -d' ' -f1)" "$(wc -c <"$movie_part" | tr -d ' ')"
}

give_names() {
    [ -z "$kept" ] || ln -f "$movie_part" "$kept" || cp "$movie_part" "$kept"
    mv -f "$movie_part" "$movie"
    [ -z "$poster" ] || mv -f "$poster_part" "$poster"
    [ -z "$sheet" ] || mv -f "$sheet_part" "$sheet"
}

prove_ffmpeg || exit "$unproved"
mkdir -p "$parent"
remove_leftovers
parts=("$movie_part" ${poster:+"$poster_part"} ${sheet:+"$sheet_part"})
keep_fresh </dev/null >/dev/null 2>&1 &
beat=$!
drawn_in=
trap 'kill $beat 2>/dev/null || true; rm -f -- "${parts[@]}"; [ -z "$drawn_in" ] || rm -rf -- "$drawn_in"' EXIT
[ -z "$drawn" ] || unpack_drawn || exit "$undrawn"
[ -z "$sums" ] || look_at_frames
encode
draw_pictures
tell_movie
give_names
echo movie made
