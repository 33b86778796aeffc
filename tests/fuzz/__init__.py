"""Hostile input: what is sent to shells, and what comes back. The unit tests run a little of it, `python -m tests.fuzz` all."""
