"""Movies: from a scene to frames to a movie file. This room knows services by their endpoints, and nothing of where
they come from.
"""
