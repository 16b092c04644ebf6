"""Stub of the map's self-check, which Python reaches by MapWriter.verify."""
