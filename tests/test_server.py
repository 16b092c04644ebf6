"""The node process: what it says, what it leaves behind, and how it ends."""

from __future__ import annotations

import re
import resource
import signal
import socket
import subprocess
import sys
import threading

import pytest

from processes import STOP_SECONDS_MAX, NodeProcess, environment, server_refuses


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def test_a_first_start_says_what_was_founded_where_and_what_to_type(data_dir):
    with NodeProcess(data_dir) as node:
        status, answer = node.call("/set", {"key": "foo", "value": 1})
        assert status == 200 and answer["index"] == 3, "founding, the leader's first, this one"
        assert node.stop() == 0
    said = "".join(node.said)
    assert re.search(rf"founded cluster [0-9a-f]{{16}}; its data is in {data_dir}$", said, re.M)
    assert f"http://{node.address}/set" in said and "leader in term 2" in said
    assert said.index("leader in term 2") < said.index(f"serves http://{node.address}")
    assert said.rstrip().endswith("stopped")


def test_a_second_start_goes_on_where_the_first_ended(data_dir):
    with NodeProcess(data_dir) as node:
        node.call("/set", {"key": "foo", "value": {"a": "ä"}})
        first = node.call("/get", {"key": "foo"})
        node.stop()
        node.start()
        assert node.call("/get", {"key": "foo"}) == first
        assert "founded" not in "".join(node.said) and "leader in term 3" in "".join(node.said)


def test_a_node_that_says_that_it_serves_is_ready(data_dir):
    with NodeProcess(data_dir) as node:
        text = "x" * 1000
        for first in range(0, 30_000, 5000):
            ops = [{"op": "set", "key": f"k{first + at}", "value": text} for at in range(5000)]
            assert node.call("/batch", {"ops": ops})[0] == 200
        node.kill()
        node.start()
        assert node.ask("/readyz") == (200, {"status": "ready"})
        node.kill()
        node.start()
        assert node.call("/get", {"key": "k29999"})[1]["value"] == text


@pytest.mark.parametrize("few", [5, 11, 20, 63])
def test_too_few_descriptors_are_one_sentence(data_dir, few):
    said = server_refuses(data_dir, descriptors=few)
    assert f"may have only {few} open files, of which it needs 64" in said
    assert not data_dir.exists()


@pytest.mark.parametrize("name", ["HTTP_PORT", "PEER_PORT"])
def test_a_port_in_use_leaves_nothing_behind(data_dir, name):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = (port, "0") if name == "HTTP_PORT" else ("0", port)
        said = server_refuses(data_dir, ports=ports)
    assert f"{name} {port} is in use on 127.0.0.1" in said
    assert not data_dir.exists()


def test_the_peer_port_is_kept_from_others(data_dir, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with NodeProcess(data_dir, peer_port=port):
        said = server_refuses(tmp_path / "other", ports=("0", str(port)))
        assert f"PEER_PORT {port} is in use" in said


def test_an_ipv6_node_is_reached_and_named_in_brackets(data_dir):
    with NodeProcess(data_dir, "--host", "::1") as node:
        assert node.address.startswith("[::1]:")
        status, _ = node.call("/set", {"key": "k", "value": 1})
        assert status == 200
        _, status_body = node.ask("/status")
        assert status_body["members"][0]["http"] == node.address


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_nothing_acknowledged_is_lost(data_dir, number):
    with NodeProcess(data_dir) as node:
        acknowledged = []
        first_is_in = threading.Event()

        def write():
            connection = node.connect()
            try:
                for value in range(100_000):
                    connection.request("POST", "/set", b'{"key":"k","value":%d}' % value)
                    response = connection.getresponse()
                    body = response.read()
                    if response.status != 200:
                        assert b'"shutting_down"' in body
                        return
                    acknowledged.append(value)
                    first_is_in.set()
            except OSError:
                pass  # the connection ended between two requests
            finally:
                connection.close()

        writer = threading.Thread(target=write)
        writer.start()
        assert first_is_in.wait(STOP_SECONDS_MAX)
        node.process.send_signal(number)
        assert node.process.wait(STOP_SECONDS_MAX) == 0
        writer.join()
        node.start()
        _, answer = node.call("/get", {"key": "k"})
        assert answer["value"] in (acknowledged[-1], acknowledged[-1] + 1)


SERVER = """
import asyncio, sys
from pathlib import Path
from seafoam import server
from seafoam.config import Settings
from seafoam.errors import InvariantBroken

def announce(node):
    # From a callback of the loop's own, with none of the node's code around it.
    loop = asyncio.get_running_loop()
    loop.call_soon(fail)
    loop.call_soon(print, "the loop went on")
    loop.call_soon(server.signal.raise_signal, server.signal.SIGTERM)

def fail():
    raise {error}

server._announce = announce
sys.exit(server.run(Settings(http_port=0, peer_port=0, data_dir=Path(sys.argv[1]))))
"""


def run_until_it_fails(data_dir, error):
    """A node in which a callback raises `error` once it serves: status, output, log."""
    done = subprocess.run(
        [sys.executable, "-c", SERVER.replace("{error}", error), str(data_dir)], timeout=60,
        capture_output=True, text=True, env=environment(),
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("error", [
    "ZeroDivisionError('broken on purpose')",
    "InvariantBroken('broken on purpose')",
])
def test_a_broken_invariant_anywhere_ends_the_process_at_once(data_dir, error):
    status, out, said = run_until_it_fails(data_dir, error)
    assert (status, out) == (70, "")
    assert "the node ends: an invariant is broken: broken on purpose" in said
    assert "Traceback" in said, "where it broke is for whoever mends it"
    with NodeProcess(data_dir) as node:
        assert node.call("/set", {"key": "k", "value": 1})[0] == 200


def test_what_the_other_end_of_a_socket_can_cause_is_logged_and_gone_on_from(data_dir):
    status, out, said = run_until_it_fails(data_dir, "ConnectionResetError('by peer')")
    assert (status, out) == (0, "the loop went on\n")
    assert "by peer" in said and "the node ends" not in said


def test_a_disk_that_fails_ends_the_process_in_words_and_answers_nothing_more(data_dir):
    with NodeProcess(data_dir) as node:
        assert node.call("/set", {"key": "k", "value": 1})[0] == 200
        # From here on, every write to a file fails.
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        with pytest.raises((OSError, EOFError)):
            node.call("/set", {"key": "k", "value": 2})
        assert node.process.wait(STOP_SECONDS_MAX) == 70
        said = "".join(node.said)
        assert "the node ends: a " in said and "it is not tried again" in said
        assert "Traceback" not in said
        node.start()
        assert node.call("/get", {"key": "k"})[1]["value"] == 1


def test_a_disk_that_went_back_ends_the_node_in_one_sentence():
    program = ("import logging; from seafoam import server\n"
               "from seafoam.errors import DiskWentBack\n"
               "logging.basicConfig(); server._end(DiskWentBack('the disk went back in time'))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          env=environment(), timeout=STOP_SECONDS_MAX)
    assert done.returncode == 70
    assert done.stderr.endswith("the node ends: the disk went back in time\n")
    assert "Traceback" not in done.stderr
