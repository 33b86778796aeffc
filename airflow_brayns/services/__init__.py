"""The braynsServices in allocations: this room joins `cluster` and `brayns`."""
