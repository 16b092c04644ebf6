"""Bugs planted on purpose in the shared map, each of which one of its instruments must catch."""
