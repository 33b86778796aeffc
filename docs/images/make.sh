#!/bin/sh
# `make pictures`: the README's, four frames of the movie of `make demo`; the preview of the how-to page; the sheet and the poster of
# two movies that the batch made of dags/movies/.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PWD/.venv/bin:$PATH
export AIRFLOW_HOME="$PWD/build/airflow" AIRFLOW__CORE__DAGS_FOLDER="$PWD/dags" AIRFLOW__CORE__LOAD_EXAMPLES=False
ffmpeg=$(python -c 'from airflow_brayns.movie.ffmpeg import ffmpeg; print(ffmpeg())')
"$ffmpeg" -v error -y -i out/movie.mp4 -vf "select='not(mod(n,15))',crop=300:340:170:10,tile=4x1" -frames:v 1 docs/images/movie.png
airflow brayns movie preview dags/movies/neuron.yaml -w 320 -o docs/images/preview.jpg
airflow dags test brayns_movie_batch -c "{\"folder\": \"$PWD/dags/movies\"}"
"$ffmpeg" -v error -y -i out/batch/flight.sheet.jpg -vf scale=1000:-2 -q:v 4 docs/images/batch.jpg
cp out/batch/column.poster.jpg docs/images/column.jpg
"$ffmpeg" -v error -y -i out/batch/cell.mp4 -vf "select='eq(n,8)+eq(n,42)+eq(n,60)+eq(n,93)',scale=500:-2,tile=2x2" -frames:v 1 -update 1 -q:v 3 docs/images/cell.jpg
"$ffmpeg" -v error -y -i out/batch/spikes.mp4 -vf "select='eq(n,3)+eq(n,11)+eq(n,44)+eq(n,68)',scale=500:-2,tile=2x2" -frames:v 1 -update 1 -q:v 3 docs/images/spikes.jpg
# The poster, and a part of it in full size where four of its tiles meet
"$ffmpeg" -v error -y -i out/batch/poster.png -filter_complex '[0]split[a][b];[a]scale=480:600[c];[b]crop=480:600:3300:3330[d];[c][d]hstack' -frames:v 1 -update 1 -q:v 5 docs/images/poster.jpg
# The page's, of `make test-ui`; with few colours, which is all that they have
small="scale='min(1000,iw)':-2,split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"
for picture in page:states-light-wide page-form:way-form-light-wide page-viewer:way-viewer-light-narrow page-approval:way-approval-light-wide page-movie:way-movie-dark-narrow page-stale:slurm-stale-dark-narrow page-extended:slurm-extended-light-wide; do
    [ ! -f "build/ui/${picture#*:}.png" ] || "$ffmpeg" -v error -y -i "build/ui/${picture#*:}.png" -vf "$small" "docs/images/${picture%:*}.png"
done
# Four failed tasks on Airflow's page, for the page about what is wrong
sh tests/ui/setup.sh .venv
python docs/images/failures.py
