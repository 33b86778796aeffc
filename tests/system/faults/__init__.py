"""The fault table: what comes of a task, its jobs and its nodes when something breaks, or somebody does something, at each stage.

`python -m tests.system.faults` runs it on the test cluster and a real Airflow. A fault is in the file of its theme: `machines.py`
(SSH, slurmctld, the login node), `folder.py` (the state folder), `nodes.py` (nodes and jobs), `services.py` (braynsService),
`airflow_parts.py` (worker, triggerer, scheduler, API server), `people.py` (what users do). What a stage is: `stages.py`.
"""
