"""Sensors on a local cluster."""

from tests.support.local import cluster as cluster
from tests.support.local import context as context
from tests.support.local import state as state
