"""Three real nodes: founded by three commands, written to anywhere, killed, stopped, joined.

What is done to a running cluster shares one, which each test leaves whole; what changes who is in
it has its own.
"""

from __future__ import annotations

import json
import socket
import struct
import threading

import pytest

from cluster_support import Cluster, ClusterNode, wait_until
from processes import STOP_SECONDS_MAX, seafoam
from support import Client, post

#: A socket that is closed so ends its connection with a reset.
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster") / "nodes") as cluster:
        yield cluster.start()


@pytest.fixture
def cluster(shared):
    """Three nodes that run, are equal and have a leader."""
    shared.start()
    shared.leader()
    return shared


@pytest.fixture
def own(tmp_path):
    with Cluster(tmp_path / "nodes") as cluster:
        yield cluster


def error_of(answered):
    status, answer = answered
    return status, answer["error"]["code"], answer["error"].get("applied")


def client_of(node):
    host, _, port = node.address.rpartition(":")
    return Client((host, int(port)))


def test_three_commands_found_one_cluster_of_three_voters(cluster):
    statuses = [node.status for node in cluster.nodes]
    assert len({status["cluster_id"] for status in statuses}) == 1
    assert sorted(status["role"] for status in statuses) == ["follower", "follower", "leader"]
    for node in cluster.nodes:
        line = node.wait_until_it_says("founded cluster")
        assert line.rstrip().endswith(
            f"founded cluster {statuses[0]['cluster_id']}; its data is in {node.data_dir}")


def test_members_are_the_same_on_every_node(cluster):
    answers = [node.ask("/members") for node in cluster.nodes]
    assert all(status == 200 for status, _ in answers)
    members = answers[0][1]["members"]
    assert all(answer["members"] == members for _, answer in answers)
    told = {(member["node_id"], member["peer"], member["http"], member["role"])
            for member in members}
    assert told == {(node.status["node_id"], node.peer, node.address, "voter")
                    for node in cluster.nodes}
    assert all(answer["index"] >= 2 for _, answer in answers)


def test_a_write_through_each_node_is_read_on_each(cluster):
    indexes = [node.set(f"through/{at}", at) for at, node in enumerate(cluster.nodes)]
    assert indexes == sorted(set(indexes))
    for at, node in enumerate(cluster.nodes):
        assert node.get(f"through/{at}") == at, "whoever answered a write shows it"
    held = cluster.wait_until_equal()
    assert [held[f"through/{at}"] for at in range(3)] == [0, 1, 2]


def test_every_kind_of_write_goes_through_a_follower(cluster):
    node = cluster.followers()[0]
    node.set("kind", {"a": [1, 2]})
    assert error_of(node.call("/set", {"key": "kind", "value": 1, "if_absent": True})) == (
        409, "key_exists", "no")
    status, answer = node.call("/cas", {"key": "kind", "old_value": {"a": [1, 2.0]},
                                        "new_value": 2, "msg_id": 7})
    assert (status, answer["in_reply_to"]) == (200, 7)
    assert error_of(node.call("/cas", {"key": "kind", "old_value": 1, "new_value": 3})) == (
        409, "cas_mismatch", "no")
    status, answer = node.call("/batch", {"ops": [
        {"op": "get", "key": "kind"}, {"op": "delete", "key": "kind"},
        {"op": "set", "key": "kind/2", "value": None}]})
    assert status == 200 and answer["results"][0]["value"] == 2
    assert answer["results"][1]["deleted"] is True
    held = cluster.wait_until_equal()
    assert "kind" not in held and held["kind/2"] is None


def test_requests_pipelined_to_a_follower_are_answered_in_order(cluster):
    requests = [
        post(name, {"key": "pipelined", "msg_id": number, **more})
        for number in range(100) for name, more in (("set", {"value": number}), ("get", {}))
    ]
    with client_of(cluster.followers()[0]) as client:
        threading.Thread(target=client.send, args=(b"".join(requests),), daemon=True).start()
        answers = [client.receive().json for _ in requests]
    assert [answer["in_reply_to"] for answer in answers] == [at // 2 for at in range(200)]
    assert [answer["value"] for answer in answers[1::2]] == list(range(100))
    indexes = [answer["index"] for answer in answers[::2]]
    assert indexes == sorted(set(indexes))


def test_kill_of_the_leader_and_writes_go_on_and_it_catches_up(cluster):
    leader = cluster.leader()
    term = leader.status["term"]
    leader.set("before", 1)
    leader.kill()
    for at, node in enumerate(cluster.running):
        node.set(f"after/{at}", at)
    assert cluster.leader().status["term"] > term
    leader.start()
    held = cluster.wait_until_equal()
    assert (held["before"], held["after/0"], held["after/1"]) == (1, 0, 1)
    assert leader.get("after/1") == 1


def test_kill_of_a_follower_is_not_noticed_by_writers(cluster):
    leader, (gone, other) = cluster.leader(), cluster.followers()
    term = leader.status["term"]
    gone.kill()
    for number in range(20):
        leader.set("without", number, timeout_ms=2000)
        other.set("without", number, timeout_ms=2000)
    gone.start()
    assert cluster.wait_until_equal()["without"] == 19
    assert cluster.leader() is leader and leader.status["term"] == term


def test_a_leader_that_is_asked_to_end_hands_over_first(cluster):
    leader, followers = cluster.leader(), cluster.followers()
    term = leader.status["term"]
    lines = [len(node.said) for node in followers]
    answers = []
    is_over = threading.Event()

    def write(node, name):
        connection = node.connect()
        while not is_over.is_set():
            connection.request("POST", "/set", json.dumps({"key": name, "value": 1}))
            response = connection.getresponse()
            answers.append((response.status, response.read()))
        connection.close()

    threads = [threading.Thread(target=write, args=(node, node.peer)) for node in followers]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) >= 10, lambda: "nothing is written")
    assert leader.stop() == 0
    for node, first_line in zip(followers, lines, strict=True):
        node.wait_until_it_says(rf"(leader|follower) in term {term + 1}$", first_line)
    before = len(answers)
    wait_until(lambda: len(answers) >= before + 10, lambda: "writes do not go on")
    is_over.set()
    for thread in threads:
        thread.join(STOP_SECONDS_MAX)
    assert {status for status, _ in answers} == {200}, answers
    said = [line for node, first_line in zip(followers, lines, strict=True)
            for line in node.said[first_line:]]
    assert not [line for line in said if "pre-candidate" in line], "nobody waited for a timeout"
    assert leader.said[-1].rstrip().endswith("stopped")


def test_all_three_killed_and_restarted_lose_nothing(cluster):
    for number in range(30):
        cluster.nodes[number % 3].set(f"kept/{number}", number)
    cluster.kill()
    cluster.start()
    held = cluster.wait_until_equal()
    assert [held[f"kept/{number}"] for number in range(30)] == list(range(30))


def test_one_alone_is_starting_and_two_of_three_serve(cluster):
    cluster.nodes[0].set("older", 1)
    cluster.nodes[1].set("newer", 2)
    cluster.wait_until_equal()
    cluster.kill()
    first, second, _ = cluster.nodes
    first.launch().wait_until_it_says("seafoam .*: node")
    wait_until(lambda: first.try_ask("/livez")[0] == 200, lambda: "it does not listen")
    assert error_of(first.call("/get", {"key": "older"}))[:2] == (503, "starting")
    assert error_of(first.call("/scan", {}))[:2] == (503, "starting")
    assert first.ask("/readyz")[0] == 503
    answered = first.call("/set", {"key": "never", "value": 1, "timeout_ms": 200})
    assert error_of(answered) == (503, "no_leader", "no")
    second.start()
    first.wait_until_ready()
    assert first.get_many(["older", "newer", "never"]) == [1, 2, None]
    second.set("newest", 3)
    assert cluster.wait_until_equal()["newest"] == 3


def test_a_write_waits_out_an_election(cluster):
    leader, (node, _) = cluster.leader(), cluster.followers()
    leader.kill()
    assert node.set("waited", 1, timeout_ms=20_000)


def test_a_client_that_leaves_while_its_write_is_forwarded_harms_nobody(cluster):
    leader, (node, other) = cluster.leader(), cluster.followers()
    with leader.paused():
        for reset in (False, True):
            with client_of(node) as client:
                client.send(post("set", {"key": "left", "value": 1}))
                wait_until(lambda: node.status["http"]["in_flight_bytes"] > 0,
                           lambda: "the write is not under way")
                if reset:
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    cluster.leader()
    node.set("stayed", 1)
    other.set("stayed", 2)
    held = cluster.wait_until_equal()
    assert held["stayed"] == 2 and held.get("left") in (None, 1)
    wait_until(lambda: node.status["http"]["in_flight_bytes"] == 0,
               lambda: f"the client is still accounted for: {node.status['http']}")


def test_a_leader_that_stood_still_steps_down_and_shows_nothing_old(cluster):
    leader, (node, _) = cluster.leader(), cluster.followers()
    term = leader.status["term"]
    with leader.paused():
        node.set("meanwhile", 1, timeout_ms=20_000)
    wait_until(lambda: leader.status["term"] > term, lambda: "it has not heard of the new term")
    leader.set("afterwards", 2)
    assert leader.get("meanwhile") == 1
    assert cluster.wait_until_equal()["afterwards"] == 2


def test_where_clients_reach_a_member_is_what_it_last_told(cluster):
    leader, (gone, other) = cluster.leader(), cluster.followers()

    def told_by(node):
        answers = node.ask("/members")[1]["members"], node.status["members"]
        assert answers[0] == answers[1]
        return {member["peer"]: member["http"] for member in answers[0]}

    def printed_by(node):
        status, out, _ = seafoam("members", "--node", node.address)
        assert status == 0
        return {peer: http for _, _, peer, http in (line.split(" ") for line in out.splitlines())}

    everything = {node.peer: node.address for node in cluster.nodes}
    wait_until(lambda: all(told_by(node) == everything for node in cluster.nodes),
               lambda: f"{[told_by(node) for node in cluster.nodes]}")
    gone.kill()
    other.set("without", gone.peer)
    assert told_by(leader) == told_by(other) == everything, "also of one that is down"
    other.kill()
    other.start()
    assert told_by(other) == {**everything, gone.peer: ""}, "they have not met since it started"
    assert printed_by(other) == {**everything, gone.peer: "-"}
    gone.start()
    wait_until(lambda: told_by(other) == everything, lambda: f"{told_by(other)}")


# -- where they are ----------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [
    ("0.0.0.0", "0.0.0.0", "0.0.0.0"),
    ("127.0.0.1", "127.0.0.2", "127.0.0.3"),
], ids=["wildcard", "addresses"])
def test_nodes_reach_each_other_by_what_they_advertise(own, hosts):
    names = ("localhost", "127.0.0.2", "127.0.0.3")
    for node, host, name in zip(own.nodes, hosts, names, strict=True):
        node.move_to(host, name)
    for node in own.nodes:
        # The first is named by nobody: only what it says of itself leads to it.
        node.peers = tuple(other.peer for other in own.nodes[1:])
    own.start()
    own.wait_until_members(3)
    places = {(node.peer, node.address) for node in own.nodes}
    for node in own.nodes:
        wait_until(lambda node=node: places == {
            (member["peer"], member["http"]) for member in node.ask("/members")[1]["members"]
        }, lambda: f"the members are {own.nodes[0].ask('/members')}")
    for node in own.nodes:
        node.set("k", node.address)
    gone = own.leader()
    gone.kill()
    for node in own.running:
        node.set("k", 1)
    gone.start()
    assert own.wait_until_equal() == {"k": 1}
    latecomer = own.add(own.nodes[2].peer)
    latecomer.start()
    own.wait_until_members(3, 1)


# -- who is in ---------------------------------------------------------------------------------


def test_two_latecomers_make_a_cluster_of_one_a_cluster_of_three(own):
    first, second, third = own.nodes
    first.peers = ()
    first.start()
    first.set("alone", 1)
    cluster_id = first.status["cluster_id"]
    second.peers = third.peers = (first.peer,)
    second.start()
    own.wait_until_members(1, 1)
    assert second.get("alone") == 1, "it learns, and serves"
    assert second.status["role"] == "learner"
    second.set("by a learner", 2)
    third.start()
    own.wait_until_members(3)
    assert {node.status["cluster_id"] for node in own.nodes} == {cluster_id}
    first.kill()
    second.set("without the first", 3)
    first.start()
    assert own.wait_until_equal() == {"alone": 1, "by a learner": 2, "without the first": 3}


def test_a_fourth_stays_a_learner_and_a_wiped_disk_takes_its_old_seat(own):
    own.start()
    own.nodes[0].set("k", 1)
    ids = own.wait_until_members(3)
    fourth = own.add(own.nodes[0].peer)
    fourth.start()
    ids_of_four = own.wait_until_members(3, 1)
    assert set(ids) < set(ids_of_four)
    fourth.set("k", 2)
    fourth.kill()
    own.nodes.remove(fourth)
    wiped = own.followers()[0]
    old_id = wiped.status["node_id"]
    wiped.kill()
    wiped.wipe()
    wiped.start()
    wait_until(
        lambda: old_id not in (ids := own.wait_until_members(3, 1)) and (
            wiped.status["node_id"] in ids),
        lambda: "the seat is not taken")
    assert wiped.status["role"] == "follower", "the voter count is what it was"
    assert own.wait_until_equal() == {"k": 2}
    own.leader().kill()
    wiped.set("k", 3)


def test_a_removed_nodes_old_directory_stays_away_and_keeps_its_data(own):
    own.start()
    own.nodes[0].set("k", 1)
    own.wait_until_equal()
    wiped = own.followers()[0]
    old_id = wiped.status["node_id"]
    wiped.kill()
    old = ClusterNode(own.folder, *wiped.peers)
    wiped.data_dir.rename(old.data_dir)
    wiped.start()
    wait_until(lambda: old_id not in own.wait_until_members(3), lambda: "it is still a member")
    ids = own.wait_until_members(3)
    term = own.leader().status["term"]
    others = list(own.nodes)
    own.nodes.append(old)
    for _ in range(2):
        old.launch()
        line = old.wait_until_it_says("was removed")
        assert f"node {old_id} was removed from this cluster" in line
        assert "start it on an empty directory" in line
        for path, body in (("/get", {"key": "k"}), ("/scan", {}),
                           ("/set", {"key": "k", "value": 2, "timeout_ms": 100})):
            answered = old.call(path, body)
            assert error_of(answered)[:2] == (503, "no_leader")
            assert f"node {old_id} was removed" in answered[1]["error"]["message"]
        assert "was removed" in old.ask("/readyz")[1]["error"]["message"]
        for number, node in enumerate(others):
            node.set("k", number)
        # It has asked again and again meanwhile.
        assert len([said for said in old.said if "was removed" in said]) == 1, "said once"
        assert [node.members() for node in others] == [others[0].members()] * 3
        assert {member["node_id"] for member in others[0].members()} == set(ids)
        old.kill()
    assert own.leader().status["term"] == term, "nobody minds it"
    assert (old.data_dir / "META").exists() and any((old.data_dir / "wal").iterdir())
    old.wipe()
    old.start()
    own.wait_until_members(3, 1)
    assert old.get("k") == 2, "with an emptied directory it comes back, as a new node"


def test_a_removed_nodes_old_directory_is_told_so_at_its_old_address_too(own):
    """What its log says of it still holds there, so that only the leader can tell."""
    own.start()
    own.nodes[0].set("k", 1)
    own.wait_until_equal()
    node = own.followers()[0]
    old_id = node.status["node_id"]
    aside, newer = own.folder / "aside", own.folder / "newer"
    node.kill()
    node.data_dir.rename(aside)
    node.start()
    wait_until(lambda: old_id not in own.wait_until_members(3), lambda: "it is still a member")
    node.kill()
    node.data_dir.rename(newer)
    aside.rename(node.data_dir)
    node.launch()
    assert f"node {old_id} was removed from this cluster" in node.wait_until_it_says("was removed")
    assert "was removed" in node.ask("/readyz")[1]["error"]["message"]
    others = [other for other in own.nodes if other is not node]
    others[0].set("k", 2)
    node.kill()
    node.wipe()
    newer.rename(node.data_dir)
    node.start()
    assert own.wait_until_equal() == {"k": 2}


def test_a_wiped_leader_takes_its_old_seat_too(own):
    own.start()
    own.nodes[0].set("k", 1)
    wiped = own.leader()
    old_id = wiped.status["node_id"]
    wiped.kill()
    wiped.wipe()
    wiped.start()
    wait_until(lambda: old_id not in own.wait_until_members(3), lambda: "it is still a member")
    assert own.wait_until_equal() == {"k": 1}


def test_a_node_in_no_cluster_refuses_at_once_and_says_for_whom_it_waits(tmp_path):
    node = ClusterNode(tmp_path, "127.0.0.1:1")
    node.launch().wait_until_it_says("waiting for 127.0.0.1:1")
    try:
        wait_until(lambda: node.try_ask("/livez")[0] == 200, lambda: "it does not listen")
        answered = node.call("/set", {"key": "k", "value": 1, "timeout_ms": 60_000})
        assert error_of(answered) == (503, "no_leader", "no")
        assert "127.0.0.1:1" in answered[1]["error"]["message"]
        assert error_of(node.call("/get", {"key": "k"})) == (503, "no_leader", None)
        assert error_of(node.call("/batch", {"ops": [{"op": "delete", "key": "k"}]})) == (
            503, "no_leader", "no")
        status = node.status
        assert status["role"] == "unjoined" and int(status["cluster_id"], 16) == 0
        assert node.ask("/readyz")[0] == 503 and node.ask("/members")[1]["members"] == []
        assert node.stop() == 0
    finally:
        if node.is_running:
            node.kill()
