"""What a leader sends the other members; replication.pxd says when."""

from seafoam._core.limits cimport APPEND_BYTES_MAX
from seafoam._core.log cimport entry_bytes
from seafoam._core.message cimport MESSAGE_APPEND, MESSAGE_HEARTBEAT, Entry
from seafoam._core.progress cimport PROGRESS_PROBE, PROGRESS_REPLICATE, PROGRESS_SNAPSHOT

from seafoam.errors import ensure


cdef class Replication:
    """One leader's view of the others in its term."""

    def __cinit__(self, uint64_t node_id, uint64_t term, RaftLog log not None,
                  Outbox out not None):
        self._node_id = node_id
        self._term = term
        self._log = log
        self._out = out
        self._members = {}

    # -- who -----------------------------------------------------------------------------------

    cdef track(self, Configuration configuration, uint64_t tick):
        """Know of each other member; what is known already stays, who left is forgotten."""
        cdef dict before = self._members
        self._members = {}
        for node_id in configuration.member_ids():
            if node_id != self._node_id:
                self._members[node_id] = before.get(node_id) or Progress(
                    node_id, self._log.last_index + 1, tick)
        self.is_due = len(self._members) > 0

    cdef Progress of(self, uint64_t node_id):
        return self._members.get(node_id)

    cdef bint is_alone(self):
        return len(self._members) == 0

    # -- what happened -------------------------------------------------------------------------

    cdef bint answered(self, Progress progress, Message answer) except -1:
        """A member answered an append; whether it has acknowledged more than before."""
        cdef bint is_news
        self.is_due = True
        if answer.is_rejected:
            progress.rejected(answer.index,
                              self._log.agreeing_index(answer.hint_index, answer.hint_term))
            return False
        ensure(answer.index <= self._log.last_index,
               f"node {answer.from_id:x} acknowledges entry {answer.index}, the leader's log ends "
               f"at {self._log.last_index}")
        is_news = progress.acknowledged(answer.index)
        if progress.state == PROGRESS_SNAPSHOT and self._can_follow(progress):
            progress.ask_again(progress.next_index)  # it needs none after all
        return is_news

    cdef heartbeat_answered(self, Progress progress):
        """It is there; had the entries that are out been lost, only an append would show."""
        if progress.state == PROGRESS_SNAPSHOT:
            return
        if progress.state == PROGRESS_PROBE or progress.match_index < self._log.last_index:
            progress.must_ask = True
            self.is_due = True

    cdef fetched(self, list entries):
        cdef Progress progress
        cdef Entry first = entries[0]
        for progress in self._members.values():
            if progress.fetching_index != first.index:
                continue
            progress.fetching_index = 0
            self.is_due = True
            if first.index + 1 == progress.next_index:
                progress.learned_term(first.index, first.term)
            elif (first.index == progress.next_index and progress.may_send()
                    and self._knows_term_before(progress)):
                self._send_append(progress, _fitting(entries))

    cdef bint installed(self, Progress progress, uint64_t index) except -1:
        """A member has installed a snapshot; whether that acknowledges more than before."""
        ensure(index <= self._log.last_index,
               f"node {progress.node_id:x} has installed a snapshot of entry {index}, the "
               f"leader's log ends at {self._log.last_index}")
        self.is_due = True
        return progress.installed(index)

    cdef not_installed(self, Progress progress):
        """A snapshot did not get there. Only its answer shows that it is there to be sent one."""
        if progress.state == PROGRESS_SNAPSHOT:
            progress.ask_again(self._log.last_index + 1)
            self.is_due = True

    # -- send ----------------------------------------------------------------------------------

    cdef send(self):
        cdef Progress progress
        self.is_due = False
        for progress in self._members.values():
            self._send_to(progress)

    cdef send_heartbeats(self, uint64_t round_number):
        """The commit index in one is never past what the member is known to hold."""
        cdef Progress progress
        cdef Message message
        for progress in self._members.values():
            message = Message(MESSAGE_HEARTBEAT, self._node_id, progress.node_id, self._term)
            message.commit_index = min(progress.match_index, self._log.commit_index)
            message.context = round_number
            self._out.messages.append(message)

    cdef _send_to(self, Progress progress):
        """Send a member the entries it may be sent, else what it should know without any."""
        cdef bint has_sent = False
        cdef uint64_t before_index = progress.next_index - 1
        if progress.state == PROGRESS_SNAPSHOT:
            return
        if not self._can_follow(progress):
            if progress.may_send() or progress.must_ask:
                progress.lacks_log()
                self._out.snapshots.append(progress.node_id)
            return
        if not self._knows_term_before(progress):
            self._fetch(progress, (before_index, before_index))
            return
        while progress.next_index <= self._log.last_index and progress.may_send():
            if progress.next_index < self._log.first_index:
                if progress.state == PROGRESS_REPLICATE:
                    self._fetch(progress, (progress.next_index, self._log.first_index - 1))
                break
            self._send_append(
                progress, self._log.slice_from(progress.next_index, APPEND_BYTES_MAX))
            has_sent = True
        if has_sent:
            return
        if progress.state == PROGRESS_PROBE:
            if progress.may_send():
                self._send_append(progress, ())
        elif progress.must_ask or progress.told_commit_index < min(
                self._log.commit_index, progress.next_index - 1):
            self._send_append(progress, ())

    cdef _send_append(self, Progress progress, tuple entries):
        cdef Message message = Message(MESSAGE_APPEND, self._node_id, progress.node_id, self._term)
        cdef Entry entry
        cdef uint64_t last_index, last_term
        cdef uint64_t size_bytes = 0
        last_index = progress.next_index - 1
        last_term = self._term_before(progress)
        message.index = last_index
        message.log_term = last_term
        message.commit_index = self._log.commit_index
        message.entries = entries
        for entry in entries:
            size_bytes += entry_bytes(entry)
            last_index = entry.index
            last_term = entry.term
        progress.sent(last_index, last_term, size_bytes)
        progress.told_commit(message.commit_index)
        self._out.messages.append(message)

    cdef _fetch(self, Progress progress, tuple wanted):
        """Ask the disk for what a member needs, unless that is on its way for another already."""
        cdef Progress other
        cdef uint64_t first_index = wanted[0]
        cdef bint is_asked = False
        if progress.fetching_index == first_index:
            return
        for other in self._members.values():
            is_asked = is_asked or other.fetching_index == first_index
        progress.fetching_index = first_index
        if not is_asked:
            self._out.fetches.append(wanted)

    cdef bint _can_follow(self, Progress progress):
        cdef uint64_t before_index = progress.next_index - 1
        return self._log.can_follow(before_index, progress.knows_term_of(before_index))

    cdef bint _knows_term_before(self, Progress progress):
        cdef uint64_t index = progress.next_index - 1
        return index == 0 or self._log.knows_term_of(index) or progress.knows_term_of(index)

    cdef uint64_t _term_before(self, Progress progress) except? 0:
        cdef uint64_t index = progress.next_index - 1
        if index == 0:
            return 0
        if self._log.knows_term_of(index):
            return self._log.term_of(index)
        return progress.known_term

    # -- ask -----------------------------------------------------------------------------------

    cdef dict acknowledged(self):
        """What each member is known to have on disk."""
        cdef Progress progress
        cdef dict acked = {self._node_id: self._log.durable_index}
        for progress in self._members.values():
            acked[progress.node_id] = progress.match_index
        return acked

    cdef dict heard_within(self, uint64_t tick_count, uint64_t tick):
        """Whether each member was heard of within so many ticks."""
        cdef Progress progress
        cdef dict heard = {self._node_id: True}
        for progress in self._members.values():
            heard[progress.node_id] = True if tick - progress.contact_tick < tick_count else False
        return heard

    def __repr__(self):
        return f"Replication(term={self._term} members={list(self._members.values())})"


cdef tuple _fitting(list entries):
    """The first of these that fit one append, at least one."""
    cdef Py_ssize_t count = 0
    cdef uint64_t size_bytes = 0
    for entry in entries:
        size_bytes += entry_bytes(entry)
        if size_bytes > APPEND_BYTES_MAX and count > 0:
            break
        count += 1
    return tuple(entries[:count])
