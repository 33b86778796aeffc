"""Chaos: hundreds of DAG runs, twenty and more at a time, while every kind of process is killed at random moments.

`python -m tests.system.chaos` runs a part of them on the test cluster and a real Airflow, appends what came of it to
`build/chaos/parts.jsonl` and sums up all parts. What is killed: `kills.py`; what people do: `people.py`; whether nodes are left
behind or asked for twice, and whose an endpoint was: `ledger.py`; whether a movie is whole: `check.py`.
"""
