# The shared map: one MapWriter, any number of MapReaders. The names by which the layers above know
# it; owns nothing itself.
#
#   map_layout.pxd     what a segment looks like; the hash
#   map_protocol.pxd   how a reader reads and validates, and why that is right
#   map_reader.pxd     single and multi-key reads, the reader's object
#   map_scan.pxd       walking the whole map in pages
#   arena.pxd          where entries live, and how scattered space is gathered
#   map_words.pxd      where the writer finds the words of its buckets and entries
#   map_snapshot.pxd   the state of one moment, read while writes go on
#   map_writer.pxd     the order of a write, growth, loading a snapshot

from seafoam._core.map_reader cimport MapReader, ReadItem
from seafoam._core.map_scan cimport ScanItem, ScanPage
from seafoam._core.map_snapshot cimport MapSnapshot
from seafoam._core.map_writer cimport MapWriter, ValueView
