"""The clusters that nodes come from: Slurm, or this machine. This room knows nothing of Brayns or Airflow."""
