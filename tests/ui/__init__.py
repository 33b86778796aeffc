"""The page in a real browser: `make test-ui`; not a part of CI."""
