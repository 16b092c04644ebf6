"""The Raft log's positions and its tail; log.pxd draws how they relate."""

from seafoam.errors import InvariantBroken, ensure


cdef class RaftLog:
    """Entries above the applied position, restored from disk or appended by the machine.

    `entries` are what recovery read, from index 1 on without a gap, all of them durable;
    `commit_index` is the highest commit position that was found synced.
    """

    def __cinit__(self, list entries not None, uint64_t commit_index):
        cdef Entry entry
        cdef uint64_t expected_index = 1
        for entry in entries:
            if entry.index != expected_index:
                raise InvariantBroken(
                    f"the recovered log jumps to index {entry.index} where "
                    f"{expected_index} is due")
            expected_index += 1
        self._entries = list(entries)
        self._before_term = 0
        self.first_index = 1
        self.last_index = expected_index - 1
        self.written_index = self.last_index
        self.durable_index = self.last_index
        ensure(commit_index <= self.last_index,
               f"commit index {commit_index} is past the log's end {self.last_index}")
        self.commit_index = commit_index
        self.applying_index = 0
        self.applied_index = 0

    cdef Entry append(self, uint64_t term, int kind, bytes data):
        cdef Entry entry = Entry(self.last_index + 1, term, kind, data)
        if term < self.last_term():
            raise InvariantBroken(f"an entry of term {term} cannot follow a later term's")
        self._entries.append(entry)
        self.last_index = entry.index
        return entry

    cdef list take_unwritten(self):
        """Entries the disk has not been given yet; they count as given from here on."""
        cdef list taken = self._entries[self.written_index + 1 - self.first_index:]
        self.written_index = self.last_index
        return taken

    cdef list take_committed(self, size_t entry_count):
        """At most `entry_count` entries to apply: committed, durable here, not given before."""
        cdef uint64_t start = self.applying_index + 1
        cdef uint64_t stop = min(self.commit_index, self.durable_index) + 1
        if stop <= start:
            return []
        stop = min(stop, start + entry_count)
        self.applying_index = stop - 1
        return self._entries[start - self.first_index:stop - self.first_index]

    cdef bint durable_to(self, uint64_t index) except -1:
        """The disk has synced everything up to `index`; reports may come late, never early."""
        ensure(index <= self.written_index,
               f"the disk reports index {index}, of which it was given {self.written_index}")
        if index > self.durable_index:
            self.durable_index = index
        return True

    cdef bint commit_to(self, uint64_t index) except -1:
        ensure(index <= self.last_index,
               f"commit index {index} is past the log's end {self.last_index}")
        if index > self.commit_index:
            self.commit_index = index
        return True

    cdef bint applied_to(self, uint64_t index) except -1:
        """Apply has finished with everything up to `index`, which is let go."""
        if not self.applied_index <= index <= self.applying_index:
            raise InvariantBroken(f"applied index {index} is not within "
                                  f"{self.applied_index}..{self.applying_index}")
        if index >= self.first_index:
            self._before_term = self.term_of(index)
            del self._entries[:index + 1 - self.first_index]
            self.first_index = index + 1
        self.applied_index = index
        return True

    cdef uint64_t last_term(self):
        return (<Entry>self._entries[-1]).term if self._entries else self._before_term

    cdef uint64_t term_of(self, uint64_t index) except? 0:
        if index + 1 == self.first_index:
            return self._before_term
        if not self.first_index <= index <= self.last_index:
            raise InvariantBroken(
                f"index {index} is not held: {self.first_index}..{self.last_index} are")
        return (<Entry>self._entries[index - self.first_index]).term

    cdef bint has_unwritten(self):
        return self.last_index > self.written_index

    cdef bint has_committed(self):
        return min(self.commit_index, self.durable_index) > self.applying_index

    def __repr__(self):
        return (f"RaftLog(first={self.first_index} last={self.last_index} "
                f"written={self.written_index} durable={self.durable_index} "
                f"commit={self.commit_index} applying={self.applying_index} "
                f"applied={self.applied_index})")
