"""Stub of the shared map: its two classes under the name the rest of the tree knows."""

from seafoam._core.map_reader import MapReader as MapReader
from seafoam._core.map_snapshot import MapSnapshot as MapSnapshot
from seafoam._core.map_writer import MapWriter as MapWriter

__all__ = ["MapReader", "MapSnapshot", "MapWriter"]
