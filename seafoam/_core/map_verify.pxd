# Doubts about a map, for tests and for whoever has them: the table is walked and compared with
# itself and with its entries. Owns nothing; must never change a word. For the writer's thread.

from libc.stdint cimport uint64_t

from seafoam._core.map_layout cimport MapView

# (the set of all places, the sum of their entries' bytes, the overflow lines in use); raises
# InvariantBroken where a bucket is in a change, or a key under a wrong tag or in a wrong bucket.
cdef tuple verify_buckets(const MapView* view, uint64_t bucket_count)
