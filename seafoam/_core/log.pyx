"""The Raft log's positions and its tail; log.pxd draws how they relate."""

from seafoam._core.limits cimport KEPT_ENTRY_BYTES
from seafoam._core.message cimport is_configuring

from seafoam.errors import InvariantBroken, ensure

cdef enum:
    # Empty positions before the list is moved together: the moving is then a small part of each.
    START_MIN = 1024


cdef class RaftLog:
    """Entries above the applied position and some below, restored from disk or appended.

    `entries` are what recovery read, from the one behind `base` on without a gap, all of them
    durable; `commit_index` is the highest commit position that was found synced. Of what was
    applied, entries of `kept_bytes_max` bytes are kept.
    """

    def __cinit__(self, list entries not None, uint64_t commit_index,
                  uint64_t kept_bytes_max=0, tuple base not None=(0, 0)):
        cdef Entry entry
        self.kept_bytes_max = kept_bytes_max
        ensure((base[0] == 0) == (base[1] == 0), f"there is no entry {base[0]}@{base[1]}")
        self._begin_behind(base[0], base[1])
        self.dropped_index, self._dropped_term = base
        self.applying_index = self.applied_index = self.last_index
        commit_index = max(commit_index, self.last_index)
        for entry in entries:
            self._put(entry)
        self.written_index = self.last_index
        self.durable_index = self.last_index
        ensure(commit_index <= self.last_index,
               f"commit index {commit_index} is past the log's end {self.last_index}")
        self.commit_index = commit_index
        self.recorded_commit_index = commit_index

    # -- change --------------------------------------------------------------------------------

    cdef Entry append(self, uint64_t term, int kind, bytes data):
        cdef Entry entry = Entry(self.last_index + 1, term, kind, data)
        self._put(entry)
        return entry

    cdef bint accept(self, tuple entries) except -1:
        """Take a leader's entries, which follow one that both logs hold.

        Those that are here already stay. From the first on that differs, what is here is replaced;
        it must not be committed.
        """
        cdef Entry entry
        cdef uint64_t held_term
        for entry in entries:
            if entry.index <= self.last_index:
                if entry.index < self.first_index:
                    continue  # applied, thus committed, and not here to compare with
                held_term = self._at(entry.index).term
                if held_term == entry.term:
                    continue
                if entry.index <= self.commit_index:
                    raise InvariantBroken(
                        f"entry {entry.index} is committed here with term {held_term}, and the "
                        f"leader has it with term {entry.term}")
                self._cut_from(entry.index)
            self._put(entry)
        return True

    cdef _begin_behind(self, uint64_t index, uint64_t term):
        """Hold nothing; the next entry follows this one."""
        self._entries = []
        self._start = 0
        self._kept_bytes = 0
        self._before_term = term
        self.first_index = index + 1
        self.last_index = index
        self.configuring = []

    cdef bint restore(self, uint64_t index, uint64_t term) except -1:
        """A durable snapshot has all up to `index`, an entry of `term`; apply goes on there.

        Where that entry is here, what follows it stays. Else the log is empty behind it: it is
        shorter, or of another history, of which nothing from there on can be committed. Returns
        whether the disk has to be told of the new base before it is given another entry; where
        not, it holds what is needed to go on, and a base would void what stays.
        """
        cdef bint is_held = index <= self.last_index and self._at(index).term == term
        cdef bint is_written = is_held and index <= self.written_index
        cdef list following = []
        cdef uint64_t written_index = max(self.written_index, index)
        cdef uint64_t durable_index = max(self.durable_index, index)
        cdef Entry entry
        if is_held:
            following = self._entries[self._start + <Py_ssize_t>(index + 1 - self.first_index):]
        elif index <= self.commit_index:
            raise InvariantBroken(
                f"entry {index} is committed here with term {self.term_of(index)}, and a snapshot "
                f"has it with term {term}")
        self._begin_behind(index, term)
        for entry in following:
            self._put(entry)
        self.written_index = min(written_index, self.last_index)
        self.durable_index = min(durable_index, self.last_index)
        if not is_written:
            self.dropped_index, self._dropped_term = index, term
        self.applying_index = self.applied_index = index
        self.commit_to(index)
        self.recorded_to(index)
        return not is_written

    cdef bint _put(self, Entry entry) except -1:
        if entry.index != self.last_index + 1:
            raise InvariantBroken(f"the log jumps to index {entry.index} where "
                                  f"{self.last_index + 1} is due")
        if entry.term < self.last_term():
            raise InvariantBroken(
                f"entry {entry.index} of term {entry.term} cannot follow a later term's")
        self._entries.append(entry)
        self.last_index = entry.index
        if is_configuring(entry.kind):
            self.configuring.append(entry.index)
        return True

    cdef bint _cut_from(self, uint64_t index) except -1:
        del self._entries[self._start + <Py_ssize_t>(index - self.first_index):]
        self.last_index = index - 1
        self.written_index = min(self.written_index, self.last_index)
        self.durable_index = min(self.durable_index, self.last_index)
        while self.configuring and self.configuring[-1] >= index:
            self.configuring.pop()
        return True

    cdef list take_unwritten(self):
        """Entries the disk has not been given yet; they count as given from here on."""
        cdef list taken = self._entries[
            self._start + <Py_ssize_t>(self.written_index + 1 - self.first_index):]
        self.written_index = self.last_index
        return taken

    cdef list take_committed(self, size_t entry_count):
        """At most `entry_count` entries to apply: committed, durable here, not given before."""
        cdef uint64_t begin = self.applying_index + 1
        cdef uint64_t end = self._applicable_index() + 1
        if end <= begin:
            return []
        end = min(end, begin + entry_count)
        self.applying_index = end - 1
        return self._entries[self._start + <Py_ssize_t>(begin - self.first_index):
                             self._start + <Py_ssize_t>(end - self.first_index)]

    cdef bint durable_to(self, uint64_t index, uint64_t log_term) except -1:
        """The disk has synced everything up to `index`, an entry of `log_term`.

        Reports may come late. Where that entry was cut off since, the report is about entries
        that are not here any more: what replaced them has a report of its own.
        """
        if index > self.last_index or (index >= self.first_index
                                       and self._at(index).term != log_term):
            return False
        ensure(index <= self.written_index,
               f"the disk reports index {index}, of which it was given {self.written_index}")
        if index > self.durable_index:
            self.durable_index = index
        return True

    cdef bint commit_to(self, uint64_t index) except -1:
        """Everything up to `index` is committed; a lower index says nothing new."""
        ensure(index <= self.last_index,
               f"commit index {index} is past the log's end {self.last_index}")
        if index > self.commit_index:
            self.commit_index = index
            return True
        return False

    cdef bint recorded_to(self, uint64_t commit_index) except -1:
        """A record of this commit index is synced."""
        if commit_index > self.recorded_commit_index:
            self.recorded_commit_index = commit_index
        return True

    cdef bint applied_to(self, uint64_t index) except -1:
        """Apply has finished with everything up to `index`; what is beyond the bound is let go."""
        if not self.applied_index <= index <= self.applying_index:
            raise InvariantBroken(f"applied index {index} is not within "
                                  f"{self.applied_index}..{self.applying_index}")
        while self.applied_index < index:
            self.applied_index += 1
            self._kept_bytes += KEPT_ENTRY_BYTES + len(self._at(self.applied_index).data)
        while self.configuring and self.configuring[0] <= index:
            del self.configuring[0]
        while self._kept_bytes > self.kept_bytes_max:
            self._let_go_of_first()
        return True

    cdef bint dropped_to(self, uint64_t index) except -1:
        """The disk may not hold entries up to `index` any more: a durable snapshot has them."""
        ensure(index <= self.applied_index,
               f"entry {index} cannot be dropped: {self.applied_index} is the last one applied")
        if index > self.dropped_index:
            self._dropped_term = self.term_of(index) if self.knows_term_of(index) else 0
            self.dropped_index = index
        return True

    cdef bint _let_go_of_first(self) except -1:
        cdef Entry first = <Entry>self._entries[self._start]
        self._before_term = first.term
        self._kept_bytes -= KEPT_ENTRY_BYTES + len(first.data)
        self._entries[self._start] = None
        self._start += 1
        self.first_index += 1
        if self._start >= START_MIN and 2 * self._start >= len(self._entries):
            del self._entries[:self._start]
            self._start = 0
        return True

    # -- look ----------------------------------------------------------------------------------

    cdef Entry _at(self, uint64_t index):
        return <Entry>self._entries[self._start + <Py_ssize_t>(index - self.first_index)]

    cdef uint64_t last_term(self):
        if self.last_index < self.first_index:
            return self._before_term
        return self._at(self.last_index).term

    cdef bint knows_term_of(self, uint64_t index):
        return (self.first_index <= index + 1 and index <= self.last_index
                or index == self.dropped_index and self._dropped_term != 0)

    cpdef uint64_t term_of(self, uint64_t index) except? 0:
        """The term of an entry that is held, or of the one before the first of them.

        Of the last one that the disk dropped, it may be known too.
        """
        if index + 1 == self.first_index:
            return self._before_term
        if index == self.dropped_index and self._dropped_term != 0:
            return self._dropped_term
        if not self.first_index <= index <= self.last_index:
            raise InvariantBroken(
                f"index {index} is not held: {self.first_index}..{self.last_index} are")
        return self._at(index).term

    cdef bint agrees(self, uint64_t index, uint64_t term) except -1:
        """Whether the entry at `index` is of this term, so far as it can be told.

        What was let go is committed, and a leader's log holds all that is (5.4.3).
        """
        if index > self.last_index:
            return False
        return index + 1 < self.first_index or self.term_of(index) == term

    cdef uint64_t agreeing_index(self, uint64_t index, uint64_t term) except? 0:
        """The last index up to `index` whose entry is of no later term than `term`.

        Beyond it another log, whose last word is (index, term), cannot agree with this one. Where
        the terms are not held any more, `index` stands.
        """
        index = min(index, self.last_index)
        while self.knows_term_of(index) and index > 0 and self.term_of(index) > term:
            index -= 1
        return index

    cdef tuple slice_from(self, uint64_t index, uint64_t bytes_max):
        """Entries from `index` on that fit one append, at least one where there is one."""
        cdef Py_ssize_t begin = self._start + <Py_ssize_t>(index - self.first_index)
        cdef Py_ssize_t end = begin
        cdef Py_ssize_t held_count = len(self._entries)
        cdef uint64_t size_bytes = 0
        while end < held_count:
            size_bytes += entry_bytes(<Entry>self._entries[end])
            if size_bytes > bytes_max and end > begin:
                break
            end += 1
        return tuple(self._entries[begin:end])

    cdef bint can_follow(self, uint64_t index, bint knows_term):
        """Whether an append that follows `index` can be made, from memory or from the disk.

        For that, the term at `index` is needed too, which the caller may know.
        """
        return (index + 1 >= self.first_index or index > self.dropped_index
                or (index == self.dropped_index
                    and (index == 0 or knows_term or self._dropped_term != 0)))

    cdef uint64_t unrecorded_configuring_index(self):
        for index in self.configuring:
            if index > self.recorded_commit_index:
                return index
        return 0

    cdef uint64_t _applicable_index(self):
        cdef uint64_t limit = min(self.commit_index, self.durable_index)
        cdef uint64_t configuring = self.unrecorded_configuring_index()
        return configuring - 1 if 0 < configuring <= limit else limit

    cdef bint has_unwritten(self):
        return self.last_index > self.written_index

    cdef bint has_committed(self):
        return self._applicable_index() > self.applying_index

    def __repr__(self):
        return (f"RaftLog(first={self.first_index} last={self.last_index} "
                f"written={self.written_index} durable={self.durable_index} "
                f"commit={self.commit_index} applying={self.applying_index} "
                f"applied={self.applied_index})")
