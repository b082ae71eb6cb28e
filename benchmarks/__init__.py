"""Measurements of speed and of what the search finds; see ``README.md``."""
