# Whether a command that came from another process may go into the log.
#
# Owns that decision. Whoever serves clients writes commands from text it has judged; a command
# that comes over the network may have been written by anybody, and an entry that cannot be applied
# ends every node of a cluster for good, for none can pass it over.
#
# Must never: do I/O, change a command, or be asked when an entry is applied: by then it is too
# late to say no.
#
# Invariants: what is accepted is applied without fail, as far as memory lasts: it is whole, its
# operations and lengths are within bounds, its keys are UTF-8, its values JSON as _core/json has
# it, without white space. No byte outside of the command is read.

from libc.stdint cimport uint8_t

# OK; INVALID: a key is no UTF-8 or a value no compact JSON text; DAMAGED, UNKNOWN_TYPE,
# UNKNOWN_VERSION as the cursor of _core/wire says; NO_MEMORY.
cdef int command_check(const uint8_t* data, size_t data_bytes) noexcept nogil
