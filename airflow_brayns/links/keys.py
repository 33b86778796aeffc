"""The keys under which tasks and triggers store what people are shown: XCom's, and one of the task state store."""

ALLOCATION = "allocation"  # a booking, as `task.handover.announce` tells it
SERVICES = "services"  # the services that have proved usable; their form is a contract
TUNNEL, LOG, URL, JOBS = "brayns_tunnel", "brayns_log", "brayns_url", "brayns_jobs"
WAIT = "brayns_wait"  # of whatever waits for a booking: how each of its jobs stands, by job id
MOVIE = "brayns_movie"  # where a movie, its poster and its contact sheet are
OFFERS = "brayns_offers"  # of a `ReapNodesOperator`: what a cluster's user may ask for, by the connection's id
PREVIEW = (
    "brayns_preview"  # of a `PreviewMovieOperator`: where the contact sheet is, and its address in Airflow's pages
)
USED = "brayns_used"  # what a movie's rendering has used: node-hours by what the nodes did, see `movie.used.Used`
HELD = "brayns_held"  # of a `BraynsSessionSensor`: the booking's name, until when, what follows on, and why it ended
EXTENSION = "brayns_extension"  # of an `ExtendSessionOperator`: what may be given more time, and what came of it; in the task state store
RELEASED = "brayns_released"  # of a `ReleaseNodesOperator`: the names of the bookings that were given back
PROGRESS = "brayns_progress"  # how far a movie is; in the task state store
