"""Small faults put into the package one at a time, each held against the unit tests that reach it: `make mutants`."""
