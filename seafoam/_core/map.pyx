"""The shared map: one `MapWriter`, any number of `MapReader`s. See map.pxd for its parts."""

from seafoam._core import map_reader, map_writer

__all__ = ["MapReader", "MapWriter"]

# An import of names that map.pxd cimports would leave them out of the module.
globals()["MapReader"] = map_reader.MapReader
globals()["MapWriter"] = map_writer.MapWriter
