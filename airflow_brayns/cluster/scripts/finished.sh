# What has ended is folded away: STATE/.ab-finished/DAY/BOOKING/NAME/N, so that to look through what is there costs what lives. DAY counts
# from 1970; BOOKING is what the names of a booking's parts have in common. Who looks for one by its name finds it in either place.
# DAY/fared tells what is asked of many, in the order of their ends: "NODE NAME/N SERVICE ASKED PORT", with `-` for what there is none of.
# Shared: booking folder.

booking_of() { # booking_of NAME: sets booking
    booking=${1%"${1#???????????????}"}
    [ -n "$booking" ] || booking=$1
}

# It moved in one step, so that it is in one of both places; on a late file system too, since `.ab-finished` is read (`*`), and nobody
# there has looked for its name in a day's folder before.
folder_of() { # folder_of NAME N: sets folder: where it is or, where it is nowhere, would be
    local one
    folder=$state_dir/$1/$2
    [ ! -d "$folder" ] || return 0
    booking_of "$1"
    for one in "$state_dir"/.ab-finished/*/"$booking/$1/$2"; do
        [ ! -d "$one" ] || folder=$one
    done
}
