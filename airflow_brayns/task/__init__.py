"""The parts that every Airflow task of this package shares."""
