"""Scene → frames → movie. Knows an endpoint, nothing of where it came from."""
