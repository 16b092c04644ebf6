"""Stories of a few machines, told line by line: the files of tests/data/raft_scenarios/.

    nodes 1 2 3 learners 4 strangers 5   a fresh cluster
    campaign N | tick N COUNT            time passes for one node
    elect N                              it campaigns and wins, and all that this leads to; untold
    win N M                              it wins with the vote of M alone, and has sent nothing yet
    propose N TEXT | change N TEXT       an entry; a change of members (raft_cluster.configured)
    propose_large N                      an entry that fills an append
    read N NUMBER | transfer N TO
    sync N | sync all                    the oldest write of one; all writes of all
    deliver | deliver N | deliver all    the oldest message, to N; all, and what they lead to
    settle                               sync and deliver until nothing moves
    drop | lose N | cut N ... | heal     messages are lost: all, the oldest to N; or will be
    crash N COUNT | start N              so many unsynced records survive
    snapshot N | drop_log N INDEX        one of what N has applied; its log up to there goes
    send_snapshot N                      who needs one from N is sent it, and says what came of it
    log N | show N | network             what there is

What happens is told as it does: a role, a write handed to the disk, a message that arrives, an
entry applied.
"""

from pathlib import Path

import pytest

from golden import Interpreter, check, files_of
from raft_cluster import Cluster, place
from seafoam._core import limits
from seafoam._core.message import ENTRY_CONFIGURATION
from seafoam.errors import ConfigurationRefused


class Story:
    """One file's cluster, and what happened to it since it was last asked."""

    def __init__(self) -> None:
        self.cluster = Cluster([])
        self.lines: list[str] = []

    def __call__(self, command: str) -> str:
        verb, *words = command.split(" ")
        try:
            getattr(self, "do_" + verb)(*words)
        except ConfigurationRefused as refusal:
            self.lines.append(f"refused: {refusal}")
        lines, self.lines = self.lines, []
        return "\n".join(lines or ["nothing"])

    def do_nodes(self, *words: str) -> None:
        groups: dict[str, list[int]] = {"voters": [], "learners": [], "strangers": []}
        group = "voters"
        for word in words:
            if word in groups:
                group = word
            else:
                groups[group].append(int(word))
        self.cluster = Cluster(groups["voters"], learners=groups["learners"],
                               strangers=groups["strangers"])
        self.cluster.tell = self.lines_append
        self.lines.append(" ".join(f"{server.node_id}: {server.raft.configuration}"
                                   for server in self.cluster.servers.values()))

    def lines_append(self, line: str) -> None:
        self.lines.append(line)

    def do_campaign(self, node: str) -> None:
        self.cluster[int(node)].campaign()

    def do_elect(self, node: str) -> None:
        server = self.cluster.elect(int(node))
        self.lines = [f"{node} leads term {server.raft.term}"]

    def do_win(self, node: str, other: str) -> None:
        leader, voter = self.cluster[int(node)], self.cluster[int(other)]
        voter.tick(30)
        self.cluster.drop()
        while not leader.is_leader:
            if not (leader.sync() or voter.sync() or self.cluster.deliver()):
                leader.campaign()  # again, where it only learnt of a later term
                self.cluster.drop(lambda message: message.to_id != voter.node_id)
        self.cluster.drop()
        self.lines = [f"{node} leads term {leader.raft.term}"]

    def do_tick(self, node: str, count: str) -> None:
        self.cluster[int(node)].tick(int(count))

    def do_propose(self, node: str, text: str) -> None:
        self.cluster[int(node)].propose(text.encode())

    def do_propose_large(self, node: str) -> None:
        self.cluster[int(node)].propose(b"large " * (limits.APPEND_BYTES_MAX // 6))

    def do_change(self, node: str, *words: str) -> None:
        self.cluster[int(node)].propose(" ".join(words).encode(), ENTRY_CONFIGURATION)

    def do_read(self, node: str, number: str) -> None:
        self.cluster[int(node)].read(int(number))

    def do_transfer(self, node: str, target: str) -> None:
        self.cluster[int(node)].raft.transfer_to(int(target))
        self.cluster[int(node)].pump()

    def do_sync(self, node: str) -> None:
        if node == "all":
            for server in self.cluster.servers.values():
                server.sync_all()
        else:
            self.cluster[int(node)].sync()

    def do_deliver(self, node: str = "") -> None:
        if node == "all":
            while self.cluster.deliver():
                pass
            return
        self.cluster.deliver(self._oldest_to(node))

    def _oldest_to(self, node: str) -> int:
        network = self.cluster.network
        places = [at for at, message in enumerate(network)
                  if not node or message.to_id == int(node)]
        return places[0] if places else len(network)

    def do_lose(self, node: str) -> None:
        self.lines.append(f"lost {self.cluster.network.pop(self._oldest_to(node))}")

    def do_settle(self) -> None:
        self.cluster.settle()

    def do_drop(self) -> None:
        self.lines += [f"lost {message}" for message in self.cluster.drop()]

    def do_cut(self, *nodes: str) -> None:
        self.cluster.cut(*map(int, nodes))

    def do_heal(self) -> None:
        self.cluster.heal()

    def do_crash(self, node: str, survivors: str) -> None:
        server = self.cluster[int(node)]
        lost = server.disk.unsynced_records()[int(survivors):]
        server.crash(int(survivors))
        self.lines.append(f"{node} loses {len(lost)} records")

    def do_start(self, node: str) -> None:
        self.cluster[int(node)].restart()

    def do_snapshot(self, node: str) -> None:
        self.cluster[int(node)].begin_snapshot()
        self.cluster[int(node)].save_snapshot()

    def do_drop_log(self, node: str, index: str) -> None:
        self.cluster[int(node)].drop_log(int(index))

    def do_send_snapshot(self, node: str) -> None:
        self.cluster.carry_snapshot(int(node))

    def do_log(self, node: str) -> None:
        self.lines.append(" ".join(map(place, self.cluster[int(node)].disk.written())))

    def do_show(self, node: str) -> None:
        self.lines.append(repr(self.cluster[int(node)].raft))

    def do_network(self) -> None:
        self.lines += [repr(message) for message in self.cluster.network]


def interpreter() -> Interpreter:
    return Story()


@pytest.mark.parametrize("path", files_of("raft_scenarios"), ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    check(path, interpreter())
