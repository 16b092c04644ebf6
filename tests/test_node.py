"""The pump on doors that stand still: what is answered when, and what is refused instead."""

from __future__ import annotations

import pytest

from doors import (
    NODE_ID,
    SEED,
    ManualClock,
    MemoryDisk,
    MemoryNetwork,
    founding_entry,
    recovery_of,
)
from seafoam._core import limits
from seafoam._core.message import (
    ENTRY_COMMAND,
    ENTRY_FOUNDING,
    MESSAGE_HEARTBEAT,
    MESSAGE_READ_INDEX,
    MESSAGE_READ_INDEX_ANSWER,
    Entry,
    HardState,
    Message,
)
from seafoam._core.wire import Operation, encode_command, encode_founding
from seafoam.errors import InvariantBroken, Refusal
from seafoam.node import APPLY_SLICE_NS, Node

QUOTA_BYTES = 64 * 1024 * 1024


def set_command(key: bytes, value: bytes) -> bytes:
    return encode_command([Operation.set(key, value)])


class Rig:
    """A node on manual doors, and what it has answered."""

    def __init__(self, *, recovery=None, quota_bytes=QUOTA_BYTES):
        self.clock = ManualClock()
        self.disk = MemoryDisk()
        self.network = MemoryNetwork()
        self.fatal = []
        self.answers = {}
        self.node = Node(
            self.disk, self.clock, self.network, recovery or recovery_of(), quota_bytes,
            self.fatal.append, seed=1,
        )
        self._count = 0

    def start(self):
        self.node.start(lambda: None)
        self.settle()
        return self

    def settle(self):
        """Run and sync until nothing moves any more."""
        self.clock.advance(2 * limits.HEARTBEAT_MS / 1000)
        while self.disk.sync():
            self.clock.run()

    def submit(self, command, timeout_ms=5000):
        self._count += 1
        name = self._count
        self.node.submit(
            command, timeout_ms, lambda outcome: self.answers.setdefault(name, outcome)
        )
        return name

    def code(self, name):
        outcome = self.answers[name]
        assert isinstance(outcome, Refusal)
        return outcome.code, outcome.applied


def test_a_started_node_serves_once_its_own_first_entry_is_applied():
    rig = Rig()
    said = []
    assert rig.node.refuse_reads().code == "starting"
    assert rig.node.readiness().code == "not_ready"
    rig.node.start(lambda: said.append(rig.node.readiness()))
    rig.clock.advance(0.2)
    assert rig.node.refuse_reads().code == "starting", "its vote is not durable yet"
    rig.disk.sync()
    rig.clock.run()
    assert rig.node.refuse_reads().code == "starting", "its first entry is not durable yet"
    assert said == []
    rig.disk.sync()
    rig.clock.run()
    assert rig.node.refuse_reads() is None and rig.node.readiness() is None
    assert said == [None], "it was ready when it said so"
    rig.submit(set_command(b"k", b"1"))
    rig.settle()
    assert said == [None], "once"


def test_the_answer_to_an_earlier_starts_question_does_not_open_a_node():
    """It says what was committed then. Found by a simulated cluster: one node of it went back."""
    members = [(NODE_ID, "127.0.0.1:3010"), (2, "127.0.0.1:5010"), (3, "127.0.0.1:6010")]
    founding = Entry(1, 1, ENTRY_FOUNDING, encode_founding(0xC1, SEED, members))
    rig = Rig(recovery=recovery_of([founding]))
    rig.node.start(lambda: None)
    rig.clock.run()
    rig.node.handle_message(Message(MESSAGE_HEARTBEAT, 2, NODE_ID, 2, commit_index=1))
    rig.clock.run()
    asked = [message.context for _, message in rig.network.sent
             if message.kind == MESSAGE_READ_INDEX]
    assert len(asked) == 1
    for context, refusal in ((1, "starting"), (asked[0] + 1, "starting"), (asked[0], None)):
        rig.node.handle_message(
            Message(MESSAGE_READ_INDEX_ANSWER, 2, NODE_ID, 2, index=1, context=context))
        rig.clock.run()
        found = rig.node.refuse_reads()
        assert (found and found.code) == refusal


def test_a_node_that_is_stopped_while_it_starts_never_says_that_it_serves():
    rig = Rig()
    said = []
    rig.node.start(lambda: said.append(True))
    rig.clock.advance(0.2)
    rig.node.begin_stop()
    rig.settle()
    assert said == [] and rig.node.refuse_reads().code == "shutting_down"


def test_a_write_is_answered_only_after_the_sync_that_covers_it_and_its_apply():
    rig = Rig().start()
    name = rig.submit(set_command(b"k", b"1"))
    rig.clock.run()
    assert rig.answers == {} and rig.node.reader.get("k") is None
    rig.disk.sync()
    assert rig.answers == {}, "durable, not applied"
    rig.clock.run()
    assert rig.answers[name].index == 3
    assert rig.node.reader.get_versioned("k") == (b"1", 3)


def test_writes_of_one_turn_share_a_batch_and_keep_their_order():
    rig = Rig().start()
    batches_before = len(rig.disk.appended)
    names = [rig.submit(set_command(b"k", b"%d" % number)) for number in range(100)]
    rig.clock.run()
    assert len(rig.disk.appended) == batches_before + 1
    rig.settle()
    assert [rig.answers[name].index for name in names] == list(range(3, 103))
    assert rig.node.reader.get("k") == b"99"


def test_writes_wait_for_a_leader_and_keep_their_order():
    rig = Rig()
    names = [rig.submit(set_command(b"k", b"%d" % number)) for number in range(3)]
    rig.start()
    assert [rig.answers[name].index for name in names] == [3, 4, 5]


def test_no_leader_in_time_is_a_certain_no():
    rig = Rig()
    name = rig.submit(set_command(b"k", b"1"), timeout_ms=100)
    rig.clock.advance(0.2)
    assert rig.code(name) == ("no_leader", "no")
    rig.start()
    assert rig.node.reader.get("k") is None


def test_a_proposed_write_that_runs_out_of_time_is_unknown_and_may_still_happen():
    rig = Rig().start()
    name = rig.submit(set_command(b"k", b"1"), timeout_ms=100)
    rig.clock.advance(0.2)
    assert rig.code(name) == ("timeout", "unknown")
    rig.settle()
    assert rig.code(name) == ("timeout", "unknown"), "answered once"
    assert rig.node.reader.get("k") == b"1"


def test_the_quota_counts_what_is_proposed_and_deletes_pass():
    rig = Rig(quota_bytes=16 * 1024 * 1024).start()
    value = b'"' + b"x" * 1_000_000 + b'"'
    names = [rig.submit(set_command(b"k%d" % number, value)) for number in range(20)]
    refused = [name for name in names if name in rig.answers]
    assert refused and len(refused) < 20, "before anything is durable"
    assert {rig.code(name) for name in refused} == {("quota_exceeded", "no")}
    delete = rig.submit(encode_command([Operation.delete(b"k0")]))
    rig.settle()
    assert rig.answers[delete].results[0].deleted
    again = rig.submit(set_command(b"again", value))
    rig.settle()
    assert rig.answers[again].index > rig.answers[delete].index, "there is room again"


def test_a_full_disk_refuses_writes_with_a_certain_no_and_writes_resume():
    rig = Rig().start()
    rig.disk.full = True
    for command in (set_command(b"k", b"1"), encode_command([Operation.delete(b"k")])):
        assert rig.code(rig.submit(command)) == ("disk_full", "no")
    rig.clock.advance(3)
    assert rig.disk.retries_count >= 2
    assert rig.node.refuse_reads() is None
    rig.disk.full = False
    name = rig.submit(set_command(b"k", b"1"))
    rig.settle()
    assert rig.answers[name].index == 3


def test_a_node_that_was_removed_refuses_every_call():
    rig = Rig()
    rig.start()
    rig.settle()
    assert rig.node.refuse_reads() is None
    rig.node.be_removed("node 1 was removed")
    for refusal in (rig.node.refuse_reads(), rig.node.readiness()):
        assert refusal.message == "node 1 was removed"
    assert rig.node.refuse_reads().code == "no_leader"
    outcomes = []
    rig.node.submit(set_command(b"k", b"1"), 5000, outcomes.append)
    assert [(told.code, told.applied) for told in outcomes] == [("no_leader", "no")]


def test_beyond_the_bound_of_held_bytes_a_write_is_overloaded():
    rig = Rig(quota_bytes=1 << 34).start()
    command = encode_command(
        [Operation.set(b"k%d" % number, b'"' + b"x" * 1_000_000 + b'"') for number in range(8)]
    )
    names = [rig.submit(command) for _ in range(10)]
    refused = [name for name in names if name in rig.answers]
    assert refused == names[limits.PROPOSALS_BYTES_MAX // len(command):]
    assert {rig.code(name) for name in refused} == {("overloaded", "no")}
    rig.settle()
    again = rig.submit(set_command(b"k", b"1"))
    rig.settle()
    assert rig.answers[again].index


def test_queued_writes_are_bounded_too():
    rig = Rig()
    command = encode_command(
        [Operation.set(b"k%d" % number, b'"' + b"x" * 1_000_000 + b'"') for number in range(8)]
    )
    names = [rig.submit(command) for _ in range(10)]
    refused = [name for name in names if name in rig.answers]
    assert refused == names[limits.PROPOSALS_BYTES_MAX // len(command):]


def test_apply_gives_the_loop_back_between_entries():
    commands = [
        Entry(2 + number, 1, ENTRY_COMMAND, set_command(b"k%d" % number, b"1"))
        for number in range(10)
    ]
    recovery = recovery_of([founding_entry(), *commands], HardState(1, 0, 11))
    rig = Rig(recovery=recovery)
    seen = []
    ticking = rig.clock.now_ns

    def slow_now_ns():
        seen.append(rig.node.status()["applied_index"])
        return ticking() + len(seen) * APPLY_SLICE_NS

    rig.clock.now_ns = slow_now_ns
    rig.node.start(lambda: None)
    turns = 0
    while rig.clock._soon:
        rig.clock._soon.popleft()()
        turns += 1
    assert rig.node.status()["applied_index"] == 11
    assert turns >= 11, "each entry took a whole slice, so each had a turn of its own"


def test_a_restart_replays_the_log_and_commits_the_old_tail_in_its_own_term():
    tail = [Entry(2, 1, ENTRY_COMMAND, set_command(b"a", b"1")),
            Entry(3, 1, ENTRY_COMMAND, set_command(b"b", b"2"))]
    rig = Rig(recovery=recovery_of([founding_entry(), *tail], HardState(1, 0, 2)))
    rig.node.start(lambda: None)
    rig.clock.advance(0.2)
    assert rig.node.reader.get("a") == b"1"
    assert rig.node.reader.get("b") is None, "not known to be committed yet"
    rig.settle()
    assert rig.node.reader.get("b") == b"2"
    assert rig.node.status()["applied_index"] == 4 and rig.node.status()["term"] == 2


@pytest.mark.parametrize("torn", [HardState(0, 0, 0), HardState(1, 0, 0)])
def test_a_founding_whose_commit_index_was_torn_off_is_founded(torn):
    rig = Rig(recovery=recovery_of(hard_state=torn)).start()
    assert rig.node.refuse_reads() is None and rig.node.status()["commit_index"] == 2


def test_stopping_refuses_new_writes_and_answers_the_proposed_ones():
    rig = Rig().start()
    before = rig.submit(set_command(b"k", b"1"))
    rig.node.begin_stop()
    after = rig.submit(set_command(b"k", b"2"))
    assert rig.code(after) == ("shutting_down", "no")
    assert rig.node.unanswered_count == 1
    rig.settle()
    assert rig.answers[before].index == 3 and rig.node.unanswered_count == 0
    assert rig.node.refuse_reads().code == "shutting_down"


def test_stopping_answers_what_was_only_queued():
    rig = Rig()
    name = rig.submit(set_command(b"k", b"1"))
    rig.node.begin_stop()
    assert rig.code(name) == ("shutting_down", "no")


def test_an_entry_that_cannot_be_applied_ends_the_node():
    rig = Rig(recovery=recovery_of([founding_entry(), Entry(2, 1, 99, b"")], HardState(1, 0, 2)))
    rig.node.start(lambda: None)
    rig.clock.advance(1)
    assert len(rig.fatal) == 1 and isinstance(rig.fatal[0], InvariantBroken)
    assert "kind 99" in str(rig.fatal[0])
    assert rig.node.refuse_reads() is not None


def test_status_says_where_the_node_stands():
    rig = Rig().start()
    rig.node.http_address = "127.0.0.1:3000"
    rig.submit(set_command(b"key", b"12345"))
    rig.settle()
    status = rig.node.status()
    assert status["role"] == "leader" and status["term"] == 2
    assert status["node_id"] == "00000000000000a1" and status["cluster_id"] == "00000000000000c1"
    assert status["commit_index"] == status["applied_index"] == 3
    assert status["keys"] == 1
    assert status["memory_bytes"] == 3 + 5 + limits.ENTRY_OVERHEAD_BYTES
    place = {"node_id": "00000000000000a1", "http": "127.0.0.1:3000", "peer": "127.0.0.1:3010"}
    assert status["leader"] == place
    assert status["members"] == [{**place, "role": "voter"}]
    reader = rig.node.reader
    assert reader.applied_index == 3 and reader.commit_index == 3
