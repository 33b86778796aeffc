"""The service itself: its command lines, its protocol, when it is usable. This room knows nothing of Slurm or Airflow."""
