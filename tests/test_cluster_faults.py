"""What must not happen to a cluster, done to real processes.

A PEER that is none, two nodes on one node's data, and bytes on the peer port that no node sends:
a cluster goes on, a founding waits and says for whom, and whoever must mend it is told in a
sentence.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import threading

import pytest

from cluster_support import Cluster, ClusterNode, free_port, talk, wait_until
from processes import STOP_SECONDS_MAX, seafoam, server_refuses
from seafoam._core.limits import PEER_FRAME_BYTES_MAX, TERMS_AHEAD_MAX
from seafoam._core.message import MESSAGE_HEARTBEAT, MESSAGE_PRE_VOTE, MESSAGE_VOTE, Message
from seafoam._core.wire import Operation, encode_command, stamp_command
from seafoam._core.wire_peer import (
    CONNECTION_CALLS,
    CONNECTION_RAFT,
    FRAME_HELLO,
    FRAME_PROBE,
    FRAME_PROBE_ANSWER,
    FRAME_REFUSAL,
    REFUSED_COPY,
    FrameReader,
    FrameWriter,
    Hello,
)
from seafoam.calls import CALL_FOUNDING, Forward, Join, encode_forward, encode_join
from seafoam.founding_wire import View, encode_view

STRANGER_ID = 0xABCDEF


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster") / "nodes") as cluster:
        yield cluster.start()


@pytest.fixture
def cluster(shared):
    """Three nodes that run; afterwards no node has said anything that only a bug says."""
    shared.start()
    yield shared
    said = "".join(line for node in shared.nodes for line in node.said)
    assert "Traceback" not in said and "CRITICAL" not in said, said


@contextlib.contextmanager
def running(*nodes):
    """Nodes of no `Cluster`."""
    try:
        for node in nodes:
            if not node.is_running:
                node.launch()
        yield nodes
    finally:
        for node in nodes:
            if node.is_running:
                node.kill()


class Impostor:
    """Something that listens where a node is looked for. `behave` has each connection."""

    def __init__(self, behave):
        self.behave = behave
        self.calls_count = 0
        self._sockets = [socket.create_server(("127.0.0.1", free_port()))]
        self.address = f"127.0.0.1:{self._sockets[0].getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._sockets[0].accept()
                self._sockets.append(stream)
                self.calls_count += 1
                threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        with contextlib.suppress(OSError):
            self.behave(stream)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for stream in self._sockets:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
            stream.close()


def echo(stream):
    while data := stream.recv(65536):
        stream.sendall(data)


def speak_http(stream):
    stream.recv(65536)
    stream.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    stream.close()


def speak_garbage(stream):
    stream.sendall(random.Random(1).randbytes(100_000))
    stream.recv(1)


def close_at_once(stream):
    stream.recv(65536)  # with bytes unread it would be a reset one time and an end the next
    stream.close()


def stay_silent(stream):
    while stream.recv(65536):
        pass


# -- PEERs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("behave", "sentence"), [
    (echo, "sends back what it is sent"),
    (speak_http, "does not speak Seafoam's peer protocol"),
    (speak_garbage, "does not speak Seafoam's peer protocol"),
    (close_at_once, "closed the connection"),
], ids=["echo", "http", "garbage", "closes"])
def test_a_peer_that_is_no_node_is_waited_for_by_name(tmp_path, behave, sentence):
    with Impostor(behave) as impostor:
        node = ClusterNode(tmp_path, impostor.address)
        with running(node):
            node.wait_until_it_says(f"WARNING peer {impostor.address} .*({sentence})")
            # Long enough for a view that seemed complete to be founded on.
            wait_until(lambda: impostor.calls_count >= 6, lambda: "it is not tried again")
            node.wait_until_it_says(f"waiting for {impostor.address} .*({sentence})")
            status, answer = node.call("/set", {"key": "k", "value": 1})
            assert (status, answer["error"]["applied"]) == (503, "no")
            assert impostor.address in answer["error"]["message"]
            assert node.status["role"] == "unjoined"
            warnings = [line for line in node.said if "WARNING" in line]
            assert len(warnings) == len({line.split("WARNING")[1] for line in warnings}), (
                "said once, however often it is tried")


def test_a_peer_that_says_nothing_or_does_not_resolve_is_waited_for(tmp_path):
    with Impostor(stay_silent) as impostor:
        node = ClusterNode(tmp_path, impostor.address, "no-such-host.invalid:5010", "127.0.0.1:1")
        with running(node):
            node.wait_until_it_says("peer no-such-host.invalid:5010 does not resolve")
            node.wait_until_it_says("peer 127.0.0.1:1 cannot be reached: Connection refused")
            node.wait_until_it_says(f"peer {impostor.address} does not answer")
            assert node.status["role"] == "unjoined"


def test_a_founded_cluster_does_not_mind_what_its_peers_list_names(cluster):
    node = cluster.followers()[0]
    node.kill()
    with Impostor(echo) as impostor, Impostor(stay_silent) as silent:
        peers = node.peers
        node.peers = (*peers, impostor.address, silent.address, "no-such-host.invalid:1")
        node.start()
        node.wait_until_it_says(f"WARNING peer {impostor.address} .*sends back")
        node.set("minds", "nothing")
        node.kill()
        node.peers = peers
    node.start()
    cluster.wait_until_members(3)


def test_a_peer_that_is_only_oneself_makes_a_cluster_of_one(tmp_path):
    port = free_port()
    node = ClusterNode(tmp_path, f"127.0.0.1:{port}", ports=(free_port(), port))
    with running(node):
        node.wait_until_ready()
        node.set("k", 1)
        assert [member["role"] for member in node.members()] == ["voter"]


def test_peers_on_ipv6_named_twice_by_two_names_and_oneself_among_them(tmp_path):
    with Cluster(tmp_path / "nodes", host="::1") as cluster:
        for node in cluster.nodes:
            same = cluster.nodes[1].peer.replace("[::1]", "[0:0:0:0:0:0:0:1]")
            node.peers = (*node.peers, same, *node.peers, node.peer)
        cluster.start()
        cluster.wait_until_members(3)
        places = {member["peer"] for member in cluster.nodes[0].members()}
        assert places == {node.peer for node in cluster.nodes}
        assert all(place.startswith("[::1]:") for place in places)
        for at, node in enumerate(cluster.nodes):
            node.set(f"k{at}", at)
        assert cluster.wait_until_equal() == {"k0": 0, "k1": 1, "k2": 2}


def test_a_peer_of_another_cluster_is_refused_on_both_sides(tmp_path):
    one, other = ClusterNode(tmp_path), ClusterNode(tmp_path)
    with running(one, other):
        one.wait_until_ready()
        other.wait_until_ready()
        ids = one.status["cluster_id"], other.status["cluster_id"]
        one.kill()
        one.peers = (other.peer,)
        one.start()
        here = one.wait_until_it_says("ERROR .*cluster")
        there = other.wait_until_it_says("WARNING|ERROR")
        for line in (here, there):
            assert all(cluster_id in line for cluster_id in ids), line
        assert one.peer in there and other.peer in here
        assert f"move {one.data_dir} away" in here
        one.set("k", 1)
        other.set("k", 2)
        assert (one.get("k"), other.get("k")) == (1, 2)
        assert len(one.members()) == len(other.members()) == 1


def test_a_new_node_between_two_clusters_joins_neither(tmp_path):
    one, other = ClusterNode(tmp_path), ClusterNode(tmp_path)
    with running(one, other):
        one.wait_until_ready()
        other.wait_until_ready()
        between = ClusterNode(tmp_path, one.peer, other.peer)
        with running(between):
            line = between.wait_until_it_says("ERROR .*can join only one")
            for node in (one, other):
                assert node.peer in line and node.status["cluster_id"] in line
                assert len(node.members()) == 1
            assert between.status["role"] == "unjoined"
            said = [between.status["waiting_for"],
                    between.ask("/readyz")[1]["error"]["message"],
                    between.call("/get", {"key": "k"})[1]["error"]["message"]]
            for sentence in said:
                assert "can join only one" in sentence and "no answer" not in sentence, sentence


def test_a_single_nodes_older_directory_started_last_is_told_to_move_away(tmp_path):
    with Cluster(tmp_path / "nodes") as cluster:
        first, second, third = cluster.nodes
        peers, first.peers = first.peers, ()
        first.start()
        first.set("old", 1)
        assert first.stop() == 0
        second.launch()
        third.launch()
        second.wait_until_ready()
        third.wait_until_ready()
        first.peers = peers
        first.start()
        line = first.wait_until_it_says("ERROR .*two clusters are never made one")
        assert f"move {first.data_dir} away" in line
        shutil.move(first.data_dir, tmp_path / "moved")
        first.kill()
        first.start()
        cluster.wait_until_members(3)
        assert first.get("old") is None


# -- data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("names_it", [True, False], ids=["named", "by others"])
def test_a_copied_directory_is_refused_by_the_others_and_by_its_own_node(
    cluster, tmp_path, names_it
):
    cluster.wait_until_members(3)
    original = cluster.followers()[0]
    term = original.status["term"]
    peers = [node.peer for node in cluster.nodes if names_it or node is not original]
    copy = ClusterNode(tmp_path, *peers)
    shutil.copytree(original.data_dir, copy.data_dir)
    with running(copy):
        line = copy.wait_until_it_says("CRITICAL")
        assert_says_that_it_is_a_copy(line, original.status["node_id"], original, copy)
        assert copy.process.wait(STOP_SECONDS_MAX) != 0
        assert not any("serves http" in line for line in copy.said), "not for a moment"
        said = "".join(line for node in cluster.nodes for line in node.said)
        assert f"WARNING peer {copy.peer} runs on a copy" in said
        for node in cluster.nodes:
            node.set("copied", node.peer)
        assert cluster.leader().status["term"] == term
    cluster.wait_until_members(3)
    cluster.wait_until_equal()


def assert_says_that_it_is_a_copy(line, node_id, original, copy):
    """What is wrong, where the first one answers, and what to do."""
    assert f"runs on a copy of the data of node {node_id}" in line
    assert f"which is running as {original.peer}" in line
    assert f"empty {copy.data_dir}" in line


@pytest.mark.parametrize("first_dials", [False, True], ids=["called", "dialling"])
def test_a_copy_of_a_lone_node_ends_and_the_first_goes_on(tmp_path, first_dials):
    """Else two stores of one cluster id would go different ways."""
    ports = free_port(), free_port()
    original = ClusterNode(tmp_path)
    with running(original):
        original.wait_until_ready()
        original.set("k", 1)
        if first_dials:
            original.kill()
            original.peers = (f"127.0.0.1:{ports[1]}",)
            original.start()
        node_id = original.status["node_id"]
        copy = ClusterNode(tmp_path, original.peer, ports=ports)
        shutil.copytree(original.data_dir, copy.data_dir)
        for _ in range(3):
            with running(copy):
                line = copy.wait_until_it_says("CRITICAL")
                assert_says_that_it_is_a_copy(line, node_id, original, copy)
                assert copy.process.wait(STOP_SECONDS_MAX) != 0
                assert "Traceback" not in "".join(copy.said)
        original.set("k", 2)
        assert original.get("k") == 2
        assert "CRITICAL" not in "".join(original.said)
        copy.wipe()
        with running(copy):
            copy.wait_until_ready()
            assert copy.get("k") == 2, "emptied, it joins"
            assert len(original.members()) == 2


def test_of_two_copies_that_start_at_once_and_name_each_other_one_stays(tmp_path):
    one = ClusterNode(tmp_path)
    with running(one):
        one.wait_until_ready()
        one.set("k", 1)
    other = ClusterNode(tmp_path, one.peer)
    shutil.copytree(one.data_dir, other.data_dir)
    one.peers = (other.peer,)
    for _ in range(3):
        with running(one, other):
            wait_until(lambda: not (one.is_running and other.is_running),
                       lambda: "".join(one.said + other.said))
            stays = one if one.is_running else other
            stays.wait_until_ready()
            assert stays.get("k") == 1
            ends = other if stays is one else one
            assert "CRITICAL" in "".join(ends.said) and "CRITICAL" not in "".join(stays.said)


def test_a_node_that_is_started_again_at_once_is_no_copy_of_itself(cluster):
    node = cluster.followers()[0]
    for _ in range(5):
        node.kill()
        node.start()
    assert "copy" not in "".join(node.said)


def test_a_second_process_on_one_directory_is_refused(cluster):
    node = cluster.nodes[0]
    said = server_refuses(node.data_dir)
    assert f"is in use by process {node.process.pid}" in said
    node.set("in use", 1)


def test_two_nodes_that_swap_their_directories_swap_their_addresses(tmp_path):
    with Cluster(tmp_path / "nodes") as cluster:
        cluster.start()
        ids = cluster.wait_until_members(3)
        one, other, third = cluster.nodes
        one.set("k", 1)
        one.kill()
        other.kill()
        one.data_dir, other.data_dir = other.data_dir, one.data_dir
        one.start()
        other.start()

        def are_swapped():
            places = {member["peer"]: member["node_id"] for member in third.members()}
            return all(places.get(node.peer) == node.status["node_id"] for node in cluster.nodes)

        wait_until(are_swapped, lambda: f"the members are {third.members()}\n{cluster.tail()}")
        assert cluster.wait_until_members(3) == ids
        one.set("k", 2)
        third.kill()
        other.set("k", 3)
        assert cluster.wait_until_equal() == {"k": 3}


def test_a_directory_put_together_from_two_nodes_is_refused(tmp_path):
    one, other = ClusterNode(tmp_path), ClusterNode(tmp_path)
    with running(one, other):
        one.wait_until_ready()
        other.wait_until_ready()
    shutil.copy(other.data_dir / "META", one.data_dir / "META")
    said = server_refuses(one.data_dir)
    assert "cannot start" in said and str(one.data_dir) in said


# -- bytes on the peer port --------------------------------------------------------------------


def hello_of(kind, **more):
    said = {"cluster_id": 0, "nonce": 9, "http_address": "", "dialled_address": "",
            "peer_address": "127.0.0.1:9", **more}
    return Hello(kind, said.pop("node_id", STRANGER_ID), 1, **said)


def endpoint(node):
    host, _, port = node.peer.rpartition(":")
    return host, int(port)


GREETING = FrameWriter().hello(hello_of(CONNECTION_CALLS))


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    bytes(1_000_000),
    random.Random(7).randbytes(1_000_000),
    b"SEAFOAMP" + random.Random(8).randbytes(5000),
    GREETING[:-1],
    GREETING[:20],
    GREETING[:-1] + b"\xff",
    GREETING + b"\xff" * PEER_FRAME_BYTES_MAX * 4,
    GREETING * 2,
    b"",
], ids=["http", "tls", "zeros", "random", "preamble", "truncated", "truncated early", "flipped",
        "oversized", "replayed", "nothing"])
def test_garbage_on_the_peer_port_ends_its_connection_only(cluster, data):
    leader = cluster.leader()
    term = leader.status["term"]
    for node in cluster.nodes:
        talk(endpoint(node), data)
    for number, node in enumerate(cluster.nodes):
        node.set("garbage", number)
    assert cluster.leader() is leader and leader.status["term"] == term


def test_connections_that_say_nothing_do_not_keep_the_nodes_apart(cluster):
    victim = cluster.followers()[0]
    with contextlib.ExitStack() as opened:
        for _ in range(300):
            opened.enter_context(socket.create_connection(endpoint(victim), timeout=10))
        victim.kill()
        victim.launch()
        for _ in range(300):
            with contextlib.suppress(OSError):
                opened.enter_context(socket.create_connection(endpoint(victim), timeout=10))
        victim.wait_until_ready()
        victim.set("crowded", 1)


class Stranger:
    """A connection to a node's peer port that speaks its language."""

    def __init__(self, node, kind, **more):
        self.stream = socket.create_connection(endpoint(node), timeout=10)
        self.writer, self.reader = FrameWriter(), FrameReader()
        hello = hello_of(kind, **more)
        self.stream.sendall(self.writer.hello(hello))
        frame = self.next_frame()
        self.refusal = str(frame.body) if frame.type == FRAME_REFUSAL else ""
        if frame.type == FRAME_HELLO:
            nonce = frame.body.nonce
            self.writer.open(hello.nonce, nonce)
            self.reader.open(nonce, hello.nonce, (FRAME_PROBE, FRAME_PROBE_ANSWER))
            assert self.next_frame().type == FRAME_PROBE
            self.stream.sendall(self.writer.probe_answer())

    def next_frame(self):
        while (frame := self.reader.next()) is None:
            data = self.stream.recv(65536)
            if not data:
                raise EOFError
            self.reader.feed(data)
        return frame

    def ends_with(self):
        """The refusal that the node ends the connection with."""
        try:
            while (frame := self.next_frame()).type != FRAME_REFUSAL:
                pass
        except (EOFError, ConnectionResetError):
            return ""
        return str(frame.body)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()


def test_a_frame_that_comes_twice_is_refused(cluster):
    with Stranger(cluster.nodes[0], CONNECTION_CALLS) as stranger:
        probe = stranger.writer.probe()
        stranger.stream.sendall(probe + probe)
        assert stranger.ends_with()


def test_a_call_that_is_none_is_refused_by_name(cluster):
    for payload in (b"", b"\0", b"\1short", b"\2", b"\3" + bytes(100), b"\xff" * 1000):
        with Stranger(cluster.nodes[0], CONNECTION_CALLS) as stranger:
            stranger.stream.sendall(stranger.writer.call(1, payload))
            assert stranger.ends_with(), payload


@pytest.mark.parametrize("address", ["a..b:1", "h" + ".x" * 300 + ":1", "x y\n\x1b[31mz", "h:0"])
def test_who_asks_to_join_from_what_is_no_address_is_refused_by_name(cluster, address):
    leader = cluster.leader()
    with Stranger(leader, CONNECTION_CALLS) as stranger:
        stranger.stream.sendall(stranger.writer.call(1, encode_join(Join(STRANGER_ID, address))))
        said = stranger.ends_with()
    assert "a wish to join comes from" in said and said.isprintable()
    leader.set("no address", 1)
    assert len(leader.members()) == 3


@pytest.mark.parametrize(("origin", "words"), [
    ("no cluster", "is in no cluster"), ("no member", "is no member of this cluster"),
    ("a member", "no UTF-8 or a value that is no JSON"),
])
@pytest.mark.parametrize("operation", [
    Operation.set(b"poison", b"{not json"), Operation.cas(b"meal", b"1", old_value=b"{x"),
])
def test_what_would_end_all_nodes_cannot_be_forwarded(cluster, origin, words, operation):
    leader = cluster.leader()
    leader.set("meal", 1)
    status = leader.status
    member_id = int(cluster.followers()[0].status["node_id"], 16)
    says = {"cluster_id": 0 if origin == "no cluster" else int(status["cluster_id"], 16)}
    if origin == "a member":
        follower = cluster.followers()[0]
        follower.kill()  # nobody else speaks for it
        says |= {"node_id": member_id, "peer_address": follower.peer}
    command = stamp_command(encode_command([operation]), 1234, 1)
    with Stranger(leader, CONNECTION_CALLS, **says) as stranger:
        stranger.stream.sendall(stranger.writer.call(
            1, encode_forward(Forward(status["term"], command))))
        assert words in stranger.ends_with()
    assert leader.get_many(["poison", "meal"]) == [None, 1]
    cluster.start()
    leader.set("meal", 2)


def test_a_node_of_another_cluster_is_refused_by_name(cluster):
    with Stranger(cluster.nodes[0], CONNECTION_RAFT, cluster_id=77) as stranger:
        assert "belongs to cluster 000000000000004d" in stranger.refusal


def test_a_stranger_cannot_talk_a_node_into_being_a_copy(cluster):
    """Whoever calls is called back; what it says there of copies is not believed."""
    def refuse(stream):
        stream.recv(65536)
        stream.sendall(FrameWriter().refusal(REFUSED_COPY, "runs on a copy", 2**63))
        stream.recv(65536)

    node = cluster.nodes[0]
    cluster_id = int(node.status["cluster_id"], 16)
    with Impostor(refuse) as impostor, Stranger(
            node, CONNECTION_CALLS, cluster_id=cluster_id, peer_address=impostor.address):
        node.wait_until_it_says(f"peer {impostor.address} refuses this node, which runs on a copy")
        wait_until(lambda: impostor.calls_count >= 3, lambda: "it is not called back")
        node.set("a copy", "of nothing")


@pytest.mark.parametrize("kind", [MESSAGE_PRE_VOTE, MESSAGE_VOTE])
def test_who_is_no_member_can_disturb_nobody(cluster, kind):
    """Not with messages in its own name, nor in a member's."""
    leader = cluster.leader()
    status = leader.status
    to_id, cluster_id = int(status["node_id"], 16), int(status["cluster_id"], 16)
    member_id = int(cluster.followers()[0].status["node_id"], 16)
    for from_id in (STRANGER_ID, member_id):
        with Stranger(leader, CONNECTION_RAFT, cluster_id=cluster_id) as stranger:
            message = Message(kind, from_id, to_id, term=status["term"] + 50)
            stranger.stream.sendall(stranger.writer.whole(message))
            stranger.stream.shutdown(socket.SHUT_WR)
            stranger.ends_with()
    leader.set("undisturbed", 1)
    assert leader.status["term"] == status["term"]


@pytest.mark.parametrize("kind", [MESSAGE_PRE_VOTE, MESSAGE_VOTE, MESSAGE_HEARTBEAT])
@pytest.mark.parametrize("ahead", [TERMS_AHEAD_MAX + 1000, 2**63])
def test_no_message_uses_up_the_terms(cluster, kind, ahead):
    node = cluster.followers()[0]
    status = node.status
    with Stranger(node, CONNECTION_RAFT, cluster_id=int(status["cluster_id"], 16)) as stranger:
        message = Message(kind, STRANGER_ID, int(status["node_id"], 16), status["term"] + ahead)
        stranger.stream.sendall(stranger.writer.whole(message))
        assert "which no election has led to" in stranger.ends_with()
    node.set("undisturbed", 2)
    assert node.status["term"] < status["term"] + 1000


def test_a_nodes_view_is_its_own(tmp_path):
    node = ClusterNode(tmp_path, "127.0.0.1:1")
    view = View(0xBB, 2, 1, 0, "127.0.0.1:9", 0, None, (), ())
    with running(node):
        wait_until(lambda: node.try_ask("/livez")[0] == 200, lambda: "it does not listen")
        with Stranger(node, CONNECTION_CALLS) as stranger:
            stranger.stream.sendall(
                stranger.writer.call(1, bytes((CALL_FOUNDING,)) + encode_view(view)))
            assert "sent the view of node 00000000000000bb" in stranger.ends_with()


def test_the_command_line_says_why_a_node_in_no_cluster_cannot_serve(tmp_path):
    node = ClusterNode(tmp_path, "127.0.0.1:1")
    with running(node):
        wait_until(lambda: node.try_ask("/livez")[0] == 200, lambda: "it does not listen")
        status, _, err = seafoam("--node", node.address, "set", "k", "1")
        assert status == 3 and "127.0.0.1:1" in err
