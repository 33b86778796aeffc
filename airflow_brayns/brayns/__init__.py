"""The service itself: its command lines, its protocol, when it is usable. Knows nothing of Slurm or Airflow."""
