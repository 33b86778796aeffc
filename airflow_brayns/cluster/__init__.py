"""Where nodes come from. Knows nothing of Brayns or Airflow."""
