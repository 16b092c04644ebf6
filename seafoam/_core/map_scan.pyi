"""Stub of the map's scan, of which Python sees nothing: MapReader.scan is its face."""
