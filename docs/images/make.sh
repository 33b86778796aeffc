#!/bin/sh
# The README's picture, from the movie of `make demo`: four frames of the turn; and the preview of the how-to page.
set -eu
cd "$(dirname "$0")/../.."
ffmpeg=$(.venv/bin/python -c 'from airflow_brayns.movie.encode import ffmpeg; print(ffmpeg())')
"$ffmpeg" -v error -y -i out/movie.mp4 -vf "select='not(mod(n,15))',crop=300:340:170:10,tile=4x1" -frames:v 1 docs/images/movie.png
.venv/bin/airflow brayns movie preview dags/movies/neuron.yaml -w 320 -o docs/images/preview.jpg
