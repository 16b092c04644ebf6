"""One follower's replication; progress.pxd says what its positions mean."""

from seafoam._core.limits cimport IN_FLIGHT_APPEND_BYTES_MAX, IN_FLIGHT_APPENDS_MAX

from seafoam.errors import ensure

STATE_NAMES = {PROGRESS_PROBE: "probe", PROGRESS_REPLICATE: "replicate",
               PROGRESS_SNAPSHOT: "snapshot"}


cdef class Progress:
    """A member whose log is asked about from `next_index` on; it counts as heard at `tick`."""

    def __cinit__(self, uint64_t node_id, uint64_t next_index, uint64_t tick):
        ensure(next_index > 0, "the first entry is number 1")
        self.node_id = node_id
        self.contact_tick = tick
        self._become(PROGRESS_PROBE, next_index)

    cdef _become(self, int state, uint64_t next_index):
        self.state = state
        self.next_index = next_index
        self.told_commit_index = min(self.told_commit_index, next_index - 1)
        self.is_waiting = False
        self.must_ask = False
        self.fetching_index = 0
        self._window_begin = 0
        self.in_flight_count = 0
        self.in_flight_bytes = 0

    cdef heard_at(self, uint64_t tick):
        """Some answer came: whatever was waited for need not be waited for any longer."""
        self.contact_tick = tick
        self.is_waiting = False

    cdef sent(self, uint64_t last_index, uint64_t last_term, uint64_t size_bytes):
        """An append left that ends with this entry; an empty one with the entry before."""
        cdef size_t at
        self.must_ask = False
        self.learned_term(last_index, last_term)
        if self.state == PROGRESS_PROBE:
            self.is_waiting = True
        elif last_index >= self.next_index:
            at = (self._window_begin + self.in_flight_count) % IN_FLIGHT_APPENDS_MAX
            self._window[at].last_index = last_index
            self._window[at].bytes = size_bytes
            self.in_flight_count += 1
            self.in_flight_bytes += size_bytes
            self.next_index = last_index + 1

    cdef told_commit(self, uint64_t commit_index):
        """The append that left said so; it counts as far as entries had been sent."""
        self.told_commit_index = max(self.told_commit_index,
                                     min(commit_index, self.next_index - 1))

    cdef bint acknowledged(self, uint64_t index):
        """It holds everything up to `index`; whether that was news."""
        cdef bint is_news = index > self.match_index
        if index < self.match_index:
            return False
        self.match_index = index
        if self.state == PROGRESS_PROBE:
            self._become(PROGRESS_REPLICATE, index + 1)
            return is_news
        if self.state == PROGRESS_SNAPSHOT:
            self.next_index = index + 1
            return is_news
        self.next_index = max(self.next_index, index + 1)
        while self.in_flight_count > 0 \
                and self._window[self._window_begin].last_index <= index:
            self.in_flight_bytes -= self._window[self._window_begin].bytes
            self.in_flight_count -= 1
            self._window_begin = (self._window_begin + 1) % IN_FLIGHT_APPENDS_MAX
        return is_news

    cdef bint rejected(self, uint64_t index, uint64_t hint_index):
        """It refused an append whose entries followed `index`; False where that is old news.

        Both logs may agree up to `hint_index`. While probing, only the append that is out can be
        refused; while replicating, any that is not acknowledged.
        """
        if index <= self.match_index:
            return False
        if self.state == PROGRESS_PROBE and index + 1 != self.next_index:
            return False
        if self.state == PROGRESS_SNAPSHOT:
            return False
        self._become(PROGRESS_PROBE, max(self.match_index + 1, min(index, hint_index + 1)))
        return True

    cdef lacks_log(self):
        """Nobody has the entries any more that it needs next."""
        self._become(PROGRESS_SNAPSHOT, self.match_index + 1)

    cdef bint installed(self, uint64_t index):
        """It has a durable snapshot of everything up to `index`; whether that was news."""
        cdef bint is_news = index > self.match_index
        self.match_index = max(self.match_index, index)
        if self.state == PROGRESS_SNAPSHOT or self.next_index <= self.match_index:
            self._become(PROGRESS_PROBE, self.match_index + 1)
        return is_news

    cdef ask_again(self, uint64_t next_index):
        """Nothing is on its way to it any more: ask it where its log stands."""
        self._become(PROGRESS_PROBE, next_index)

    cdef learned_term(self, uint64_t index, uint64_t term):
        self._known_index = index
        self.known_term = term

    cdef bint knows_term_of(self, uint64_t index):
        return self._known_index == index and self.known_term != 0

    cdef bint may_send(self):
        """Whether an append with entries may leave now."""
        if self.state == PROGRESS_PROBE:
            return not self.is_waiting
        return (self.state == PROGRESS_REPLICATE and self.in_flight_count < IN_FLIGHT_APPENDS_MAX
                and self.in_flight_bytes < IN_FLIGHT_APPEND_BYTES_MAX)

    def __repr__(self):
        return (f"Progress(node={self.node_id:x} {STATE_NAMES[self.state]} "
                f"match={self.match_index} next={self.next_index} "
                f"in_flight={self.in_flight_count}{' waiting' if self.is_waiting else ''})")
