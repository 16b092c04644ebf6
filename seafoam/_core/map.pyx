"""The shared map: one `MapWriter`, any number of `MapReader`s. See map.pxd for its parts."""

from seafoam._core import map_reader, map_snapshot, map_writer

__all__ = ["MapReader", "MapSnapshot", "MapWriter"]

# An import of names that map.pxd cimports would leave them out of the module.
globals()["MapReader"] = map_reader.MapReader
globals()["MapSnapshot"] = map_snapshot.MapSnapshot
globals()["MapWriter"] = map_writer.MapWriter
