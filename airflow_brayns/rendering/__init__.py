"""Rendering with services: this room joins `services` and `movie`, and knows what is rendered, with what, into what."""
