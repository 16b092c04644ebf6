"""The Raft machine; raft.pxd states what it owns and its invariants, numbered as cited here.

What a message does depends on its term first (`step`), then on the role: `HANDLERS` has a function
for each kind that means something to a role, and none for those that come too late for it.
"""

from seafoam._core.confchange cimport Configuration
from seafoam._core.limits cimport (
    ELECTION_MS_MAX,
    ELECTION_MS_MIN,
    HEARTBEAT_MS,
    KEPT_LOG_BYTES_MAX,
    TICK_MS,
)
from seafoam._core.log cimport RaftLog
from seafoam._core.message cimport (
    ENTRY_CONFIGURATION,
    ENTRY_EMPTY,
    MESSAGE_APPEND,
    MESSAGE_APPEND_ANSWER,
    MESSAGE_HEARTBEAT,
    MESSAGE_HEARTBEAT_ANSWER,
    MESSAGE_KINDS,
    MESSAGE_PRE_VOTE,
    MESSAGE_PRE_VOTE_ANSWER,
    MESSAGE_READ_INDEX,
    MESSAGE_READ_INDEX_ANSWER,
    MESSAGE_TIMEOUT_NOW,
    MESSAGE_VOTE,
    MESSAGE_VOTE_ANSWER,
    VOTE_FORCED,
    Durable,
    HardState,
    Message,
    ReadReady,
    Ready,
)
from seafoam._core.outbox cimport Outbox
from seafoam._core.progress cimport Progress
from seafoam._core.reads cimport ReadRounds
from seafoam._core.replication cimport Replication

from seafoam.errors import ConfigurationRefused, DiskWentBack, InvariantBroken, ensure

ROLE_NAMES = {ROLE_FOLLOWER: "follower", ROLE_PRE_CANDIDATE: "pre-candidate",
              ROLE_CANDIDATE: "candidate", ROLE_LEADER: "leader"}

cdef enum:
    ROLES = 4

cdef uint64_t HEARTBEAT_TICKS = HEARTBEAT_MS // TICK_MS
cdef uint64_t ELECTION_TICKS_MIN = ELECTION_MS_MIN // TICK_MS
cdef uint64_t ELECTION_TICKS_MAX = ELECTION_MS_MAX // TICK_MS

ctypedef int (*Handler)(Raft, Message) except -1


cdef class Raft:
    """One node's machine, restored from what its disk holds.

    `hard_state` is the last one found on disk, `entries` the log, both durable already. `seed` is
    all the luck it has: the same seed and the same calls give the same machine. Applied entries of
    `kept_bytes_max` bytes are kept for followers, if there are others.

    Where the disk holds a snapshot, `base` is the (index, term) that it ends with, which the first
    of `entries` follows, and `configuration` is in force there since `configured_index`.
    """

    def __cinit__(self, uint64_t node_id, HardState hard_state not None, list entries not None, *,
                  uint64_t seed, uint64_t kept_bytes_max=KEPT_LOG_BYTES_MAX,
                  tuple base not None=(0, 0), Configuration configuration=None,
                  uint64_t configured_index=0):
        cdef uint64_t base_term = base[1]
        ensure(node_id != 0, "a node's id is not 0: a vote of 0 means none")
        self.node_id = node_id
        self.log = RaftLog(entries, hard_state.commit_index, 0, base)
        ensure(self.log.last_term() <= max(hard_state.term, base_term),
               f"the log holds term {self.log.last_term()}, the hard state only "
               f"{hard_state.term}")
        self._out = Outbox(hard_state)
        self._start_commit_index = self.log.commit_index
        self._kept_bytes_max = kept_bytes_max
        self._luck = seed ^ node_id
        self._votes = {}
        self._reads = ReadRounds()
        self.become_follower(hard_state.term, 0)
        self.vote = hard_state.vote
        if base_term > hard_state.term:  # the snapshot came to be durable before its term did
            self.become_follower(base_term, 0)
        ensure((configuration is not None) == (base[0] > 0),
               "a log that begins behind a snapshot has its configuration, no other has one")
        if configuration is not None:
            self._put_in_force(configured_index, configuration)

    # -- what has happened ---------------------------------------------------------------------

    cpdef step(self, Message message):
        """A message came in."""
        cdef Handler handler
        ensure(message.to_id == self.node_id, f"{message} is not for node {self.node_id:x}")
        if message.term > self.term:
            if not self._adopt_term(message):
                return
        elif message.term < self.term:
            self._correct(message)
            return
        handler = HANDLERS[self.role][message.kind]
        if handler != NULL:
            handler(self, message)

    cpdef tick(self):
        """TICK_MS have passed.

        A lone voter has nobody to wait for: it campaigns at once, which takes one sync.
        """
        self.now_ticks += 1
        if self.role == ROLE_LEADER:
            self._tick_leader()
            return
        if self.role == ROLE_CANDIDATE and self.node_id not in self._votes:
            return  # its disk is still busy with this campaign: another would only wait behind it
        if self._may_campaign() and (
                self.configuration.voter_ids() == (self.node_id,)
                or self.now_ticks - self._timer_tick >= self._timeout_ticks):
            self._campaign()

    cpdef uint64_t propose(self, int kind, bytes data) except 0:
        """Append an entry as leader; its index. Callers ask `role` and `is_transferring` first.

        Raises ConfigurationRefused for a configuration while another is under way, or before an
        entry of the leader's own term is committed: an earlier one may be, unseen.
        """
        ensure(self.role == ROLE_LEADER, f"a {ROLE_NAMES[self.role]} cannot propose")
        ensure(self._transfer_id == 0, "a leader that hands over takes no proposals")
        if kind == ENTRY_CONFIGURATION:
            if self.log.configuring:
                raise ConfigurationRefused(
                    f"the change of entry {self.log.configuring[0]} is not applied yet")
            if self.log.commit_index < self.read_floor_index:
                raise ConfigurationRefused("the leader has not committed an entry of its term yet")
        self._replication.is_due = not self._replication.is_alone()
        return self.log.append(self.term, kind, data).index

    cpdef read_index(self, uint64_t context):
        """A read waits to be confirmed; `Ready.reads` has the context when it is.

        Where no leader is known, or it changes, there will be no answer: see `reads_lost`.
        """
        cdef Message message
        if self.role == ROLE_LEADER:
            self._reads.ask(self.node_id, context)
            self._begin_round()
        elif self.leader_id != 0:
            message = self._message(MESSAGE_READ_INDEX, self.leader_id)
            message.context = context
            self._out.messages.append(message)

    cpdef transfer_to(self, uint64_t node_id):
        """Hand leadership to another voter; callers ask `role` and the configuration first.

        No proposals are taken until it has campaigned, or an election timeout has passed.
        """
        ensure(self.role == ROLE_LEADER, f"a {ROLE_NAMES[self.role]} has nothing to hand over")
        ensure(node_id != self.node_id and self.configuration.is_voter(node_id),
               f"node {node_id:x} cannot take over: it is no other voter")
        self._transfer_id = node_id
        self._transfer_tick = self.now_ticks
        self._hand_over(self._replication.of(node_id))

    cpdef durable(self, Durable report):
        """The disk has synced what was handed out with `report`, and all before it."""
        self._out.reported(report)
        self.log.recorded_to(report.commit_index)
        if report.term != self.term:
            return  # I4
        self.log.durable_to(report.index, report.log_term)
        if self.role == ROLE_CANDIDATE:
            self._votes[self.node_id] = True  # I1
            self._count_votes()
        elif self.role == ROLE_LEADER:
            self._advance_commit()  # I2

    cpdef fetched(self, list entries):
        """The disk has read what a Ready's `fetches` asked for, or the first part of it."""
        ensure(len(entries) > 0, "a fetch is answered by one entry at least")
        if self.role == ROLE_LEADER:
            self._replication.fetched(entries)

    cpdef dropped_to(self, uint64_t index):
        """Entries up to `index`, which a durable snapshot has, cannot be fetched from here on.

        They end before the snapshot's own last entry: whoever has installed that is asked whether
        it agrees there, for which its term is needed.
        """
        self.log.dropped_to(index)
        if self._replication is not None:
            self._replication.is_due = True  # what was to be fetched may be gone

    cpdef snapshot_sent(self, uint64_t node_id, uint64_t index):
        """That member has installed a snapshot of `index`: it is durable there, and restored."""
        cdef Progress progress = self.progress_of(node_id)
        if progress is not None and self._replication.installed(progress, index):
            self._advance_commit()

    cpdef snapshot_failed(self, uint64_t node_id):
        """Nothing came of it. Once that member answers again, it is sent one again."""
        cdef Progress progress = self.progress_of(node_id)
        if progress is not None:
            self._replication.not_installed(progress)

    cpdef bint restore(self, uint64_t index, uint64_t term, Configuration configuration,
                       uint64_t configured_index) except -1:
        """A snapshot is durable here that ends with entry `index` of `term`: go on from there.

        Only a follower that has not applied so much may. Entries that were handed out for apply
        before are void. Returns whether the disk must be given (index, term) as the log's new base
        before anything else; where not, it must not be: entries behind it stand on the disk.
        """
        ensure(self.role == ROLE_FOLLOWER, f"a {ROLE_NAMES[self.role]} restores no snapshot")
        ensure(index > self.log.applied_index,
               f"a snapshot of entry {index} is behind entry {self.log.applied_index}, which is "
               f"applied here")
        cdef bint is_base_due = self.log.restore(index, term)
        if term > self.term:  # it may have come before any message of that term has
            self.become_follower(term, 0)
        self._put_in_force(configured_index, configuration)
        return is_base_due

    cpdef configure(self, uint64_t index, Configuration configuration):
        """The configuration of the entry at `index` was applied and is in force from here on."""
        ensure(index in self.log.configuring and index != self.configured_index,
               f"entry {index} configures nothing, or did before")
        self._put_in_force(index, configuration)
        if not configuration.is_voter(self.node_id):
            if self.role != ROLE_FOLLOWER:
                self.become_follower(self.term, 0)
        elif self.role == ROLE_LEADER:
            if not configuration.is_voter(self._transfer_id):
                self._transfer_id = 0
            self._replication.track(configuration, self.now_ticks)
            self._advance_commit()
            self._finish_round()

    cpdef advance(self, uint64_t applied_index):
        """Apply has finished with everything up to `applied_index`."""
        for index in self.log.configuring:
            ensure(index > applied_index or index <= self.configured_index,
                   f"entry {index} was applied, and nobody said what it configures")
        self.log.applied_to(applied_index)

    # -- what to do ----------------------------------------------------------------------------

    cpdef bint has_ready(self):
        """Whether `ready` may have anything to say."""
        return ((self._replication is not None and self._replication.is_due)
                or self.log.has_unwritten() or self.log.has_committed() or self._out.has_any()
                or self._out.hard_state_is_due(self.term, self.vote, self.log))

    cpdef Ready ready(self, size_t entry_count):
        """What to do next, with at most `entry_count` entries to apply."""
        cdef Ready ready
        if self._replication is not None and self._replication.is_due:
            self._replication.send()
        ready = self._out.take(self.term, self.vote, self.log)
        ready.committed = self.log.take_committed(entry_count)
        return ready

    # -- look ----------------------------------------------------------------------------------

    @property
    def change_is_pending(self):
        """Whether the log holds a configuration that is not applied here."""
        return len(self.log.configuring) > 0

    @property
    def is_transferring(self):
        """Whether leadership is being handed over, and no proposal is taken."""
        return self._transfer_id != 0

    cpdef Progress progress_of(self, uint64_t node_id):
        """What a leader knows of another member; None for others, and while not leader."""
        return None if self._replication is None else self._replication.of(node_id)

    def __repr__(self):
        return (f"Raft(node={self.node_id:x} term={self.term} vote={self.vote:x} "
                f"role={ROLE_NAMES[self.role]} {self.log!r})")

    # -- roles ---------------------------------------------------------------------------------

    cdef become_follower(self, uint64_t term, uint64_t leader_id):
        ensure(term >= self.term, f"term {self.term} does not go back to {term}")
        if term > self.term:
            self.term = term
            self.vote = 0
            self.reads_lost += 1
            # What was to be answered in the old term rests on entries that may be cut off before
            # they are written. Nobody there is lost without it.
            self._out.messages_after_durable = []
        self.role = ROLE_FOLLOWER
        self._lead_by(leader_id)
        self.read_floor_index = 0
        self._votes = {}
        self._replication = None
        self._transfer_id = 0
        self._reads.forget()
        self._restart_timer()

    cdef become_pre_candidate(self):
        ensure(self.role != ROLE_LEADER, "a leader cannot become a pre-candidate")
        self.role = ROLE_PRE_CANDIDATE
        self._lead_by(0)
        self._votes = {self.node_id: True}
        self._restart_timer()

    cdef become_candidate(self):
        ensure(self.role != ROLE_LEADER, "a leader cannot become a candidate")
        ensure(self._may_campaign(), "a node that may not campaign cannot become a candidate")
        self.role = ROLE_CANDIDATE
        self.term += 1
        self.vote = self.node_id
        self._lead_by(0)
        self._votes = {}
        self._out.messages_after_durable = []
        self._restart_timer()

    cdef become_leader(self):
        ensure(self.role == ROLE_CANDIDATE, f"a {ROLE_NAMES[self.role]} cannot become leader")
        self.role = ROLE_LEADER
        self._lead_by(self.node_id)
        self._replication = Replication(self.node_id, self.term, self.log, self._out)
        self._replication.track(self.configuration, self.now_ticks)
        self._heartbeat_tick = self.now_ticks
        # Entries of earlier terms are committed through this one (I3).
        self.read_floor_index = self.log.append(self.term, ENTRY_EMPTY, b"").index

    cdef _lead_by(self, uint64_t leader_id):
        if leader_id != self.leader_id:
            self.leader_id = leader_id
            self.reads_lost += 1

    cdef bint _put_in_force(self, uint64_t index, Configuration configuration) except -1:
        ensure(configuration is not None, "there is no configuration without one")
        ensure(self.configured_index <= index <= self.log.applying_index,
               f"entry {index} cannot configure between {self.configured_index} and "
               f"{self.log.applying_index}")
        ensure(index <= self.log.recorded_commit_index,
               f"no record that entry {index} is committed is synced")  # I6
        self.configuration = configuration
        self.configured_index = index
        self.log.kept_bytes_max = (
            0 if configuration.member_ids() == (self.node_id,) else self._kept_bytes_max)
        return True

    cdef _restart_timer(self):
        # splitmix64 (Steele, Lea and Flood 2014): one addition, and its bits mixed.
        cdef uint64_t mixed
        self._luck += <uint64_t>0x9E3779B97F4A7C15
        mixed = (self._luck ^ (self._luck >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
        mixed = (mixed ^ (mixed >> 27)) * <uint64_t>0x94D049BB133111EB
        mixed ^= mixed >> 31
        self._timer_tick = self.now_ticks
        self._timeout_ticks = (
            ELECTION_TICKS_MIN + mixed % (ELECTION_TICKS_MAX - ELECTION_TICKS_MIN + 1))

    # -- messages ------------------------------------------------------------------------------

    cdef Message _message(self, int kind, uint64_t to_id):
        return Message(kind, self.node_id, to_id, self.term)

    cdef bint _adopt_term(self, Message message) except -1:
        """A later term than ours: follow it; False where the message must not have any effect."""
        if message.kind == MESSAGE_PRE_VOTE:
            return True  # it asks about a term that has not begun
        if message.kind == MESSAGE_PRE_VOTE_ANSWER and not message.is_rejected:
            return True  # as does the one that grants it
        if (message.kind == MESSAGE_VOTE and message.context != VOTE_FORCED
                and self._hears_leader()):
            return False  # I8
        self.become_follower(message.term, 0)
        return True

    cdef _correct(self, Message message):
        """An earlier term than ours: who leads or campaigns in it learns that it is over."""
        cdef Message answer
        if message.kind == MESSAGE_APPEND:
            answer = self._message(MESSAGE_APPEND_ANSWER, message.from_id)
        elif message.kind == MESSAGE_HEARTBEAT:
            answer = self._message(MESSAGE_HEARTBEAT_ANSWER, message.from_id)
        elif message.kind == MESSAGE_PRE_VOTE:
            answer = self._vote_answer(MESSAGE_PRE_VOTE_ANSWER, message.from_id)
        elif message.kind == MESSAGE_VOTE:
            answer = self._vote_answer(MESSAGE_VOTE_ANSWER, message.from_id)
        else:
            return
        answer.is_rejected = message.kind != MESSAGE_HEARTBEAT
        self._out.messages.append(answer)

    # -- elections -----------------------------------------------------------------------------

    cdef bint _may_campaign(self) except -1:
        # I5
        return (self.configuration is not None and self.configuration.is_voter(self.node_id)
                and self.log.applied_index >= self._start_commit_index
                and (not self.log.configuring
                     or self.log.configuring[0] > self.log.commit_index))

    cdef bint _hears_leader(self):
        return (self.role == ROLE_LEADER
                or (self.leader_id != 0
                    and self.now_ticks - self._timer_tick < ELECTION_TICKS_MIN))

    cdef bint _is_up_to_date(self, Message message):
        """Whether the asker's log is at least as long in time as this one (5.4.1)."""
        cdef uint64_t last_term = self.log.last_term()
        return (message.log_term > last_term
                or (message.log_term == last_term and message.index >= self.log.last_index))

    cdef Message _vote_answer(self, int kind, uint64_t to_id):
        cdef Message answer = self._message(kind, to_id)
        answer.commit_index = self.log.commit_index
        answer.log_term = self.log.term_of(self.log.commit_index)
        return answer

    cdef _take_vote(self, Message answer):
        """Count an answer, and learn from it what is committed (I9)."""
        if (self.log.knows_term_of(answer.commit_index)
                and self.log.term_of(answer.commit_index) == answer.log_term):
            self.log.commit_to(answer.commit_index)
        if not self._may_campaign():  # I5: it may have learnt of a configuration
            self.become_follower(self.term, 0)
            return
        self._votes[answer.from_id] = not answer.is_rejected
        self._count_votes()

    cdef _campaign(self):
        """Ask whether a campaign would be won, which disturbs nobody (dissertation, 9.6)."""
        cdef Message message
        self.become_pre_candidate()
        for node_id in self.configuration.voter_ids():
            if node_id == self.node_id:
                continue
            message = self._message(MESSAGE_PRE_VOTE, node_id)
            message.term = self.term + 1
            message.index = self.log.last_index
            message.log_term = self.log.last_term()
            self._out.messages.append(message)
        self._count_votes()

    cdef _stand(self, uint64_t context):
        """Campaign in a term of one's own."""
        cdef Message message
        self.become_candidate()
        for node_id in self.configuration.voter_ids():
            if node_id == self.node_id:
                continue
            message = self._message(MESSAGE_VOTE, node_id)
            message.index = self.log.last_index
            message.log_term = self.log.last_term()
            message.context = context
            self._out.messages_after_durable.append(message)

    cdef _count_votes(self):
        cdef str result = self.configuration.vote_result(self._votes)
        if result == "lost":
            self.become_follower(self.term, 0)
        elif result == "won" and self.role == ROLE_PRE_CANDIDATE:
            self._stand(0)
        elif result == "won" and self.node_id in self._votes:
            self.become_leader()

    # -- leading -------------------------------------------------------------------------------

    cdef _tick_leader(self):
        if self._replication.is_alone():
            return
        # Without a majority's contact it may have been followed already (dissertation, 6.2).
        if self.configuration.vote_result(self._replication.heard_within(
                ELECTION_TICKS_MIN, self.now_ticks)) != "won":
            self.become_follower(self.term, 0)
            return
        if self._transfer_id != 0 and self.now_ticks - self._transfer_tick >= ELECTION_TICKS_MIN:
            self._transfer_id = 0
        if self.now_ticks - self._heartbeat_tick >= HEARTBEAT_TICKS:
            self._send_heartbeats()

    cdef _send_heartbeats(self):
        self._heartbeat_tick = self.now_ticks
        self._replication.send_heartbeats(self._reads.number if self._reads.is_running else 0)

    cdef _advance_commit(self):
        """Commit what a majority has on disk; all are told at once."""
        cdef uint64_t index = self.configuration.committed_index(
            self._replication.acknowledged())
        if index <= self.log.commit_index or self.log.term_of(index) != self.term:  # I3
            return
        self.log.commit_to(index)
        self._replication.is_due = not self._replication.is_alone()
        self._begin_round()

    cdef _hand_over(self, Progress progress):
        """Have the target of a transfer campaign, if it holds all there is."""
        if self._transfer_id == progress.node_id and progress.match_index == self.log.last_index:
            self._out.messages.append(self._message(MESSAGE_TIMEOUT_NOW, progress.node_id))

    # -- reads ---------------------------------------------------------------------------------

    cdef _begin_round(self):
        """Confirm that this is still the leader, for all reads that wait (I7)."""
        if (self._reads.has_waiting() and not self._reads.is_running
                and self.log.commit_index >= self.read_floor_index):
            self._reads.begin(self.log.commit_index)
            self._send_heartbeats()
            self._finish_round()

    cdef _finish_round(self):
        """Answer the round's reads once a majority has confirmed it; the next one begins."""
        cdef Message message
        if not self._reads.is_running or self.configuration.vote_result(
                {**self._reads.confirmed, self.node_id: True}) != "won":
            return
        for from_id, context in self._reads.finish():
            if from_id == self.node_id:
                self._out.reads.append(ReadReady(context, self._reads.index))
                continue
            message = self._message(MESSAGE_READ_INDEX_ANSWER, from_id)
            message.index = self._reads.index
            message.context = context
            self._out.messages.append(message)
        self._begin_round()

    # -- following -----------------------------------------------------------------------------

    cdef _follow(self, uint64_t leader_id):
        """The leader of this term was heard."""
        ensure(self.leader_id == 0 or self.leader_id == leader_id,
               f"term {self.term} has two leaders, {self.leader_id:x} and {leader_id:x}")
        if self.role != ROLE_FOLLOWER:
            self.become_follower(self.term, leader_id)
        self._lead_by(leader_id)
        self._timer_tick = self.now_ticks

    cdef _reject_append(self, Message message):
        """Say where the two logs may still agree; nothing durable is claimed by that."""
        cdef Message answer = self._message(MESSAGE_APPEND_ANSWER, message.from_id)
        answer.is_rejected = True
        answer.index = message.index
        answer.hint_index = self.log.agreeing_index(message.index, message.log_term)
        answer.hint_term = self.log.term_of(answer.hint_index)
        self._out.messages.append(answer)


# -- what each kind of message does, in its own term ---------------------------------------------

cdef int _on_pre_vote(Raft raft, Message message) except -1:
    cdef Message answer
    if raft._hears_leader():
        return 0  # I8
    answer = raft._vote_answer(MESSAGE_PRE_VOTE_ANSWER, message.from_id)
    answer.is_rejected = not (message.term > raft.term and raft._is_up_to_date(message))
    if not answer.is_rejected:
        answer.term = message.term
    raft._out.messages.append(answer)
    return 0


cdef int _on_pre_vote_answer(Raft raft, Message message) except -1:
    # A grant speaks of the term to come; one for any other answers an earlier question.
    if message.is_rejected or message.term == raft.term + 1:
        raft._take_vote(message)
    return 0


cdef int _on_vote(Raft raft, Message message) except -1:
    cdef Message answer = raft._vote_answer(MESSAGE_VOTE_ANSWER, message.from_id)
    cdef bint is_free = raft.vote == 0 and raft.leader_id == 0
    if (is_free or raft.vote == message.from_id) and raft._is_up_to_date(message):
        raft.vote = message.from_id
        raft._timer_tick = raft.now_ticks
    else:
        answer.is_rejected = True
    raft._out.messages_after_durable.append(answer)
    return 0


cdef int _on_vote_answer(Raft raft, Message message) except -1:
    raft._take_vote(message)
    return 0


cdef int _on_append(Raft raft, Message message) except -1:
    cdef Message answer
    cdef uint64_t last_index = message.index + <uint64_t>len(message.entries)
    raft._follow(message.from_id)
    if not raft.log.agrees(message.index, message.log_term):
        if message.index <= raft.log.commit_index:
            raise InvariantBroken(
                f"entry {message.index} is committed here with term "
                f"{raft.log.term_of(message.index)}, and the leader {message.from_id:x} of term "
                f"{raft.term} has it with term {message.log_term}")
        raft._reject_append(message)
        return 0
    raft.log.accept(message.entries)
    raft.log.commit_to(min(message.commit_index, last_index))
    answer = raft._message(MESSAGE_APPEND_ANSWER, message.from_id)
    answer.index = last_index
    raft._out.messages_after_durable.append(answer)
    return 0


cdef int _on_append_of_another(Raft raft, Message message) except -1:
    raise InvariantBroken(f"term {raft.term} has two leaders, {raft.node_id:x} and "
                          f"{message.from_id:x}, which sent {message}")


cdef int _on_append_answer(Raft raft, Message message) except -1:
    cdef Progress progress = raft.progress_of(message.from_id)
    if progress is None:
        return 0
    progress.heard_at(raft.now_ticks)
    if raft._replication.answered(progress, message):
        raft._advance_commit()
        raft._hand_over(progress)
    return 0


cdef int _on_heartbeat(Raft raft, Message message) except -1:
    cdef Message answer
    raft._follow(message.from_id)
    if message.commit_index > raft.log.last_index:
        raise DiskWentBack(
            f"the disk went back in time: node {raft.node_id:016x} once acknowledged entry "
            f"{message.commit_index}, says the leader {message.from_id:016x} of term "
            f"{raft.term}, and its log ends at entry {raft.log.last_index}; empty its data "
            f"directory and start it again, and it comes back as a new node, under a new id")
    raft.log.commit_to(message.commit_index)
    answer = raft._message(MESSAGE_HEARTBEAT_ANSWER, message.from_id)
    answer.context = message.context
    raft._out.messages.append(answer)
    return 0


cdef int _on_heartbeat_answer(Raft raft, Message message) except -1:
    cdef Progress progress = raft.progress_of(message.from_id)
    if progress is None:
        return 0
    progress.heard_at(raft.now_ticks)
    raft._replication.heartbeat_answered(progress)
    if raft._reads.confirm(message.from_id, message.context):
        raft._finish_round()
    return 0


cdef int _on_read_index(Raft raft, Message message) except -1:
    raft._reads.ask(message.from_id, message.context)
    raft._begin_round()
    return 0


cdef int _on_read_index_answer(Raft raft, Message message) except -1:
    raft._out.reads.append(ReadReady(message.context, message.index))
    return 0


cdef int _on_timeout_now(Raft raft, Message message) except -1:
    if raft._may_campaign():
        raft._stand(VOTE_FORCED)
    return 0


# By role and kind; NULL where the message has come too late for the role: it is passed over.
cdef Handler HANDLERS[ROLES][MESSAGE_KINDS]


cdef _fill_handlers():
    cdef int role
    for role in range(ROLES):
        HANDLERS[role][MESSAGE_PRE_VOTE] = _on_pre_vote
        HANDLERS[role][MESSAGE_VOTE] = _on_vote
        HANDLERS[role][MESSAGE_APPEND] = _on_append
        HANDLERS[role][MESSAGE_HEARTBEAT] = _on_heartbeat
        HANDLERS[role][MESSAGE_READ_INDEX_ANSWER] = _on_read_index_answer
    HANDLERS[ROLE_FOLLOWER][MESSAGE_TIMEOUT_NOW] = _on_timeout_now
    HANDLERS[ROLE_PRE_CANDIDATE][MESSAGE_PRE_VOTE_ANSWER] = _on_pre_vote_answer
    HANDLERS[ROLE_CANDIDATE][MESSAGE_VOTE_ANSWER] = _on_vote_answer
    HANDLERS[ROLE_LEADER][MESSAGE_APPEND] = _on_append_of_another
    HANDLERS[ROLE_LEADER][MESSAGE_HEARTBEAT] = _on_append_of_another
    HANDLERS[ROLE_LEADER][MESSAGE_APPEND_ANSWER] = _on_append_answer
    HANDLERS[ROLE_LEADER][MESSAGE_HEARTBEAT_ANSWER] = _on_heartbeat_answer
    HANDLERS[ROLE_LEADER][MESSAGE_READ_INDEX] = _on_read_index


_fill_handlers()
