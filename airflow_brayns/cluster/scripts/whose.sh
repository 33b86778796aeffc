# An allocation tells which Airflow asked for it: the clone of a database has the mark, the runs and the tries of the one it was made of.
# Shared: theirs.

place_of() { sed -n 's/.*[^\\]"deployment": "\([A-Za-z0-9_.:-]*\)".*/\1/p'; }

is_foreign() { # is_foreign DIR: another Airflow with our mark asked for it; sets theirs
    [ -n "$place" ] && [ -e "$1/about" ] || return 1
    theirs=$(place_of 2>/dev/null <"$1/about") || return 1
    [ -n "$theirs" ] && [ "$theirs" != "$place" ]
}
