"""The commands as a person meets them: every verb, exit status and bad input, on a real node."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from cluster_support import ClusterNode
from processes import NodeProcess, environment, seafoam, server_refuses
from seafoam._core import limits

DONE, ABSENT, USAGE, UNREACHABLE, OTHER = range(5)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("node") / "data") as started:
        yield started


@pytest.fixture
def run(node: NodeProcess) -> Run:
    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        status, out, err = seafoam(*arguments, stdin=stdin, SEAFOAM_NODE=node.address)
        assert "Traceback" not in err, err
        assert status in (DONE, ABSENT) or not out, (status, out)
        return status, out, err

    return run


# Verbs


def test_get_prints_the_text_as_it_is_stored(run: Run) -> None:
    text = '{"n":1.10,"big":123456789012345678901234567890,"é":[null,"\\u0041"],"n":2}'
    assert run("set", "text", text.replace(",", " , "))[0] == DONE
    assert run("get", "text") == (DONE, text + "\n", "")


def test_set_reads_standard_input_for_a_dash(run: Run) -> None:
    status, out, _ = run("set", "dash", "-", stdin=b' {"a" : [1, 2]}\n')
    assert (status, bool(re.fullmatch(r"index \d+\n", out))) == (DONE, True)
    assert run("get", "dash")[1] == '{"a":[1,2]}\n'


def test_set_if_absent_leaves_what_is_there(run: Run) -> None:
    assert run("set", "once", "1", "--if-absent")[0] == DONE
    status, _, err = run("set", "once", "2", "--if-absent")
    assert (status, "key_exists" in err) == (ABSENT, True)
    assert run("get", "once")[1] == "1\n"


def test_negative_numbers_need_no_dashes_before_them(run: Run) -> None:
    for text in ("-5", "-0", "-1.5e3", "-1"):
        assert run("set", "minus", text)[0] == DONE
        assert run("get", "minus") == (DONE, text + "\n", "")
    assert run("cas", "minus", "-1.0", "-2")[0] == DONE
    assert run("cas", "minus", "-2", "-3", "--json")[0] == DONE
    assert run("set", "--if-absent", "minus", "-4")[0] == ABSENT
    assert run("set", "minus", "--", "-6")[0] == DONE
    assert run("set", "-7", "1")[0] == run("get", "-7")[0] == run("delete", "-7")[0] == DONE
    for wrong in ("-", "-5x", "-x", "--5", "-h5"):
        assert run("set", "minus", wrong)[0] == USAGE
    assert run("get", "minus")[1] == "-6\n"


def test_the_node_may_be_named_behind_the_verb(node: NodeProcess) -> None:
    for arguments in (["set", "behind", "1", "--node", node.address],
                      ["set", f"--node={node.address}", "behind", "1"],
                      ["--node", "127.0.0.1:1", "set", "behind", "1", "--node", node.address],
                      ["keys", "--node", node.address], ["status", "--node", node.address],
                      ["members", "--node", node.address]):
        assert seafoam(*arguments)[0] == DONE
    assert seafoam("get", "behind", "--node", "127.0.0.1:1", SEAFOAM_NODE=node.address)[0] == (
        UNREACHABLE)


def test_cas_compares_as_json_and_says_what_is_there(run: Run) -> None:
    run("set", "cas", '{"a":1,"b":2}')
    assert run("cas", "cas", '{"b":2.0,"a":1e0}', "7")[0] == DONE
    status, _, err = run("cas", "cas", "8", "9")
    assert status == ABSENT
    assert re.search(r"current value: 7\n.*current version: \d+\n$", err), err
    version = re.search(r"version: (\d+)", err)
    assert version
    assert run("cas", "cas", "--old-version", version[1], "-", stdin=b"[10]")[0] == DONE
    assert run("cas", "cas", "--old-version", version[1], "11")[0] == ABSENT
    assert run("get", "cas")[1] == "[10]\n"


def test_what_is_absent_is_status_1(run: Run) -> None:
    for verb in (["get", "no such"], ["delete", "no such"], ["cas", "no such", "1", "2"]):
        status, out, err = run(*verb)
        assert (status, out, "key_not_found" in err) == (ABSENT, "", True)


def test_delete_deletes(run: Run) -> None:
    run("set", "gone", "1")
    assert run("delete", "gone")[0] == DONE
    assert run("get", "gone")[0] == ABSENT


def test_json_prints_the_whole_answer(run: Run) -> None:
    index = json.loads(run("set", "whole", '"x"', "--json")[1])["index"]
    assert json.loads(run("get", "whole", "--json")[1]) == {"value": "x", "version": index}
    assert json.loads(run("delete", "whole", "--json")[1])["deleted"] is True
    assert json.loads(run("status", "--json")[1])["role"] == "leader"
    assert run("keys", "once", "--json")[1] in ("", '"once"\n')


def test_keys_prints_those_with_the_prefix_on_several_pages(run: Run) -> None:
    lines = b"".join(b'{"key":"page/%d","value":%d}\n' % (n, n) for n in range(2500))
    assert run("load", "-", stdin=lines)[:2] == (DONE, "loaded 2500 documents\n")
    status, out, _ = run("keys", "page/")
    assert (status, sorted(out.split())) == (DONE, sorted(f"page/{n}" for n in range(2500)))
    assert run("keys", "there are none") == (DONE, "", "")


def test_keys_that_would_confuse_are_printed_as_json(run: Run) -> None:
    keys = ["odd/line\nbreak", "odd/\x1b[31m", "odd/é ", 'odd/"']
    for key in keys:
        assert run("set", key, "1")[0] == DONE
    run("set", '"quoted', "1")
    assert sorted(run("keys", "odd/")[1].splitlines()) == sorted(
        ['"odd/line\\nbreak"', '"odd/\\u001b[31m"', "odd/é ", 'odd/"'])
    assert run("keys", '"')[1] == '"\\"quoted"\n'


def test_members_are_one_a_line(run: Run, node: NodeProcess) -> None:
    member, = json.loads(run("members", "--json")[1])["members"]
    assert member["http"] == node.address and member["role"] == "voter"
    assert run("members") == (
        DONE, f"{member['node_id']} voter {member['peer']} {node.address}\n", "")


def test_a_node_in_no_cluster_has_no_members(tmp_path: Path) -> None:
    node = ClusterNode(tmp_path, "127.0.0.1:1")
    try:
        node.launch().wait_until_it_says("waiting for 127.0.0.1:1")
        status, out, err = seafoam("members", "--node", node.address)
        assert (status, out) == (UNREACHABLE, "")
        assert "is in no cluster" in err and "Traceback" not in err
        status, out, _ = seafoam("members", "--json", "--node", node.address)
        assert (status, json.loads(out)) == (UNREACHABLE, {"members": [], "index": 0})
    finally:
        node.kill()


def test_status_is_readable(run: Run) -> None:
    status, out, _ = run("status")
    said = json.loads(out)
    assert (status, said["role"], len(said["node_id"])) == (DONE, "leader", 16)
    assert out.count("\n") > 5


def test_help_and_version_need_no_node() -> None:
    for arguments in (["--help"], ["get", "--help"], ["server", "--help"], ["load", "-h"]):
        status, out, _ = seafoam(*arguments)
        assert (status, out.startswith("Usage: ")) == (DONE, True)
    out = seafoam("server", "--help")[1]
    for default in ("127.0.0.1", "seafoam-data/PEER_PORT", "a quarter"):
        assert default in re.sub(r"\s*\n\s*", " ", out).replace("seafoam- data", "seafoam-data")
    assert re.fullmatch(r"seafoam \d+\.\d+\.\d+\n", seafoam("--version")[1])
    assert re.fullmatch(r"seafoam-server \d+\.\d+\.\d+\n", seafoam("server", "--version")[1])


# What is wrong on the command line


@pytest.mark.parametrize("arguments", [
    [], ["frobnicate"], ["get"], ["get", "a", "b"], ["get", "--frobnicate"], ["get", "-x"],
    ["set", "a"],
    ["cas", "a", "1"], ["cas", "a", "1", "2", "3"], ["cas", "a", "-", "-"],
    ["cas", "a", "--old-version", "-1", "1"], ["cas", "a", "--old-version", "1", "1", "2"],
    ["load"], ["load", "no such file"], ["load", "."], ["--node", "nowhere", "get", "a"],
    ["--node", "host:0", "get", "a"], ["--node", "::1:3000", "get", "a"],
    ["--timeout", "0", "get", "a"], ["--timeout", "soon", "get", "a"],
    ["--timeout", "nan", "get", "a"],
])
def test_wrong_usage_is_status_2_and_sends_nothing(arguments: list[str], run: Run) -> None:
    status, out, err = run(*arguments)
    assert (status, out, bool(err)) == (USAGE, "", True)


@pytest.mark.parametrize(("address", "reason"), [
    ("localhost", "'localhost' names no port; it must be HOST:PORT, as localhost:3000"),
    ("10.0.0.7", "'10.0.0.7' names no port; it must be HOST:PORT, as 10.0.0.7:3000"),
    ("[::1]", "'[::1]' names no port; it must be HOST:PORT, as [::1]:3000"),
    ("::1", "'::1' is no address of a node; an IPv6 address stands in brackets, as [::1]:3000"),
    ("::1:3000",
     "'::1:3000' is no address of a node; an IPv6 address stands in brackets, as [::1]:3000"),
    ("localhost:", "'localhost:' is no address of a node; it must be HOST:PORT"),
    (":3000", "':3000' is no address of a node; it must be HOST:PORT"),
    ("", "'' is no address of a node; it must be HOST:PORT"),
    ("localhost:65536", "'localhost:65536' is no address of a node; it must be HOST:PORT"),
    ("localhost:" + "1" * 5000, "is no address of a node; it must be HOST:PORT"),
])
def test_an_address_says_what_it_lacks(address: str, reason: str) -> None:
    status, _, err = seafoam("get", "a", "--node", address)
    assert status == USAGE
    assert err.splitlines()[-1].removeprefix("Error: ").endswith(reason), err


def test_a_value_that_is_not_json_comes_with_a_hint(run: Run) -> None:
    status, _, err = run("set", "foo", "bar")
    assert status == USAGE
    assert err.rstrip().endswith("""'"bar"'"""), err
    assert run("set", "foo", "-", stdin=b"\xff")[0] == USAGE
    assert run("set", "foo", "")[0] == USAGE
    assert run("get", "foo")[0] == ABSENT


def test_keys_and_values_past_their_limits_are_status_2(run: Run) -> None:
    longest = "k" * limits.KEY_BYTES_MAX
    assert run("set", longest, "1")[0] == DONE
    assert run("delete", longest)[0] == DONE
    assert run("set", longest + "k", "1")[0] == USAGE
    assert run("get", "")[0] == USAGE
    value = b'"' + b"v" * (limits.VALUE_BYTES_MAX - 2) + b'"'
    assert run("set", "big", "-", stdin=value)[0] == DONE
    assert run("get", "big")[1].encode() == value + b"\n"
    assert run("set", "big", "-", stdin=b"[" + value + b"]")[0] == USAGE
    assert run("delete", "big")[0] == DONE


def test_a_key_that_is_not_text_is_status_2(node: NodeProcess) -> None:
    done = subprocess.run(
        [sys.executable.encode(), b"-m", b"seafoam", b"get", b"\xff\xfe"], capture_output=True,
        env=environment(SEAFOAM_NODE=node.address), timeout=60,
    )
    assert (done.returncode, b"UTF-8" in done.stderr) == (USAGE, True), done.stderr


# No node, or none that answers


def test_no_node_is_status_3() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: nobody answers there
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, out, err = seafoam("--node", address, "get", "a")
    assert (status, out) == (UNREACHABLE, "")
    assert err.splitlines() == [f"seafoam: cannot reach {address}: Connection refused"]
    assert seafoam("--node", "no-such-host.invalid:1", "get", "a")[0] == UNREACHABLE


def answering(listener: socket.socket, *answers: bytes) -> threading.Thread:
    """A thread that takes one connection, answers as many calls as it has answers, and closes."""
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            for answer in answers:
                asked = b""
                while not asked.endswith(b"}"):
                    asked += connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_silence_is_status_3_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        status, _, err = seafoam("--node", address, "--timeout", "0.2", "get", "a")
    assert status == UNREACHABLE
    assert err == f"seafoam: {address} did not answer within 0.2 seconds\n"


def http_answer(status: int, body: bytes, fields: bytes = b"Seafoam-Index: 1\r\n") -> bytes:
    return b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body)


def error(code: str, **more: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": "so it is", **more}}).encode()


@pytest.mark.parametrize(("answer", "status"), [
    (b"", UNREACHABLE),
    (b"SSH-2.0-OpenSSH_9.2\r\n", OTHER),
    (http_answer(200, b'{"value":1}', b""), OTHER),
    (http_answer(200, b"null"), OTHER),
    (http_answer(200, b"{}"), OTHER),
    (http_answer(200, b"\xff"), OTHER),
    (http_answer(500, b"{}"), OTHER),
    (http_answer(500, b'{"error":{}}'), OTHER),
    (http_answer(200, b"{" + b" " * 200)[:-100], UNREACHABLE),
    (http_answer(418, error("a_code_of_a_later_version")), OTHER),
    (http_answer(507, error("disk_full")), OTHER),
    (http_answer(404, error("key_not_found")), ABSENT),
    (http_answer(400, error("bad_request")), USAGE),
    (http_answer(503, error("starting")), UNREACHABLE),
    (http_answer(504, error("timeout")), UNREACHABLE),
])
def test_answers_that_are_none_are_said_in_one_line(answer: bytes, status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = answering(listener, answer)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        got, out, err = seafoam("--node", address, "get", "a")
        thread.join()
    assert (got, out, len(err.splitlines())) == (status, "", 1), err


# Loading


def test_load_says_line_and_reason_of_a_bad_line(run: Run) -> None:
    good = b"".join(b'{"key":"bad/%d","value":%d}\n' % (n, n) for n in range(300))
    for bad, reason in [
        (b"{", "ends too early"), (b"[]", "an object"), (b'{"key":1,"value":1}', "not a string"),
        (b'{"key":"","value":1}', "0 bytes"), (b'{"key":"a"}', "'value' is missing"),
        (b'{"value":1}', "'key' is missing"), (b'{"key":"a","value":1,"ttl":1}', "'ttl'"),
        (b'{"key":"a","value":1,"value":2}', "twice"), (b'{"key":"\xff","value":1}', "UTF-8"),
        (b'{"key":"%b","value":1}' % (b"k" * 1025), "1025 bytes"),
        (b'{"key":"a","value":"%b"}' % (b"v" * limits.VALUE_BYTES_MAX), "1048578 bytes"),
        (b'{"key":"a","value":%b}' % (b" " * limits.BODY_BYTES_MAX), "longer than"),
    ]:
        status, out, err = run("load", "-", stdin=good + b"\n" + bad + b'\n{"key":"later"}\n')
        assert (status, out) == (OTHER, "")
        assert err.startswith("seafoam: line 302: ") and reason in err, err
        assert "lines 1 to 301 are stored, and none after them" in err
    assert run("get", "bad/299")[1] == "299\n"
    assert run("get", "a")[0] == ABSENT


@pytest.mark.parametrize(("answer", "status", "position"), [
    (b"", UNREACHABLE, "; whether lines 251 to 500 are is not known (all of them or none)"),
    (http_answer(504, error("timeout", applied="unknown")), UNREACHABLE,
     "; whether lines 251 to 500 are is not known (all of them or none)"),
    (http_answer(503, error("no_leader", applied="no")), UNREACHABLE, ", and none after them"),
    (http_answer(507, error("disk_full", applied="no")), OTHER, ", and none after them"),
])
def test_load_says_what_is_known_of_the_batch_that_failed(
    answer: bytes, status: int, position: str
) -> None:
    lines = b"".join(b'{"key":"k%d","value":%d}\n' % (n, n) for n in range(600))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = answering(listener, http_answer(200, b"{}"), answer)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        got, out, err = seafoam("--node", address, "load", "-", stdin=lines)
        thread.join()
    assert (got, out) == (status, "")
    assert err.endswith(f"; lines 1 to 250 are stored{position}\n"), err


def test_load_counts_documents_not_lines(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "documents.jsonl"
    file.write_bytes(b'\n  \r\n{"value":1.50,"key":"load/\\u00e9"}\r\n'
                     b'\n{"key":"load/2","value":null}')
    assert run("load", str(file)) == (DONE, "loaded 2 documents\n", "")
    assert run("get", "load/é")[1] == "1.50\n"
    assert run("load", "-") == (DONE, "loaded 0 documents\n", "")


def test_load_takes_batches_of_the_largest_values(run: Run) -> None:
    value = b'"' + b"v" * (limits.VALUE_BYTES_MAX - 2) + b'"'
    lines = b"".join(b'{"key":"large/%d","value":%b}\n' % (n, value) for n in range(3))
    assert run("load", "-", stdin=lines)[:2] == (DONE, "loaded 3 documents\n")
    for n in range(3):
        assert run("delete", f"large/{n}")[0] == DONE


def test_load_says_how_far_it_came_when_the_node_dies(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "data") as node:
        load = subprocess.Popen(
            [sys.executable, "-m", "seafoam", "load", "-"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(SEAFOAM_NODE=node.address),
        )
        assert load.stdin is not None
        number = 0
        # What a pipe holds is bounded, so the first batches have been sent by then.
        while number < 20_000:
            number += 1
            load.stdin.write(b'{"key":"dies/%d","value":%d}\n' % (number, number))
        load.stdin.flush()
        node.kill()
        _, err = load.communicate()
        assert load.returncode == UNREACHABLE
        said = re.search(rb"lines 1 to (\d+) are stored", err)
        assert said and b"Traceback" not in err, err
        stored = int(said[1])
        assert stored >= 250
        node.start()
        values = node.get_many([f"dies/{n}" for n in range(1, number + 1)])
    assert values[:stored] == list(range(1, stored + 1))
    doubt = re.search(rb"whether lines (\d+) to (\d+)", err)
    last = int(doubt[2]) if doubt else stored
    assert set(values[last:]) == {None}
    assert values[stored:last] in ([None] * (last - stored), list(range(stored + 1, last + 1)))


def test_load_interrupted_says_how_far_it_came(node: NodeProcess) -> None:
    load = subprocess.Popen(
        [sys.executable, "-m", "seafoam", "load", "-"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(SEAFOAM_NODE=node.address),
        # Ignored where the tests themselves run in the background of a shell.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert load.stdin is not None
    for number in range(10_000):
        load.stdin.write(b'{"key":"stop/%d","value":%d}\n' % (number, number))
    load.stdin.flush()
    load.send_signal(signal.SIGINT)
    out, err = load.communicate()
    assert (load.returncode, out) == (OTHER, b"")
    assert re.fullmatch(rb"seafoam: interrupted; lines 1 to \d+ are stored\b.*\n", err), err


def test_load_shows_a_bar_on_a_terminal_only(node: NodeProcess, tmp_path: Path) -> None:
    file = tmp_path / "documents.jsonl"
    file.write_text("".join(f'{{"key":"bar/{n}","value":{n}}}\n' for n in range(1000)))
    main, terminal = pty.openpty()
    with os.fdopen(main, "rb", buffering=0) as screen:
        load = subprocess.Popen(
            [sys.executable, "-m", "seafoam", "load", str(file)], stderr=terminal,
            stdout=subprocess.PIPE, env=environment(SEAFOAM_NODE=node.address, TERM="vt100"),
        )
        os.close(terminal)
        shown = b""
        try:
            while part := screen.read(4096):
                shown += part
        except OSError:
            pass  # the terminal's other end is closed: the command has ended
        assert load.stdout is not None
        with load.stdout as out:
            assert out.read() == b"loaded 1000 documents\n"
        assert load.wait() == DONE
    assert b"100%" in shown


# Output that nobody reads


def test_a_reader_that_leaves_early_ends_the_command_quietly(node: NodeProcess) -> None:
    assert node.call("/batch", {"ops": [
        {"op": "set", "key": f"pipe/{'x' * 900}/{n}", "value": n} for n in range(2000)
    ]})[0] == 200
    keys = subprocess.Popen(
        [sys.executable, "-m", "seafoam", "keys", "pipe/"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=environment(SEAFOAM_NODE=node.address),
    )
    assert keys.stdout is not None and keys.stderr is not None
    keys.stdout.readline()
    keys.stdout.close()
    with keys.stderr as err:
        assert err.read() == b""
    assert keys.wait() == OTHER


def test_output_that_cannot_be_written_is_status_4(node: NodeProcess) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "seafoam", "status"], stdout=full, stderr=subprocess.PIPE,
            env=environment(SEAFOAM_NODE=node.address), timeout=60,
        )
    assert done.returncode == OTHER
    assert done.stderr == b"seafoam: output: No space left on device\n"


# The server


@pytest.mark.parametrize(("options", "reason"), [
    (["--frobnicate"], "No such option"),
    (["--data-dir", ""], "--data-dir"),
    (["127.0.0.1"], "is not HOST:PORT"),
    (["127.0.0.1:0"], "from 1 to 65535"),
    (["127.0.0.1:many"], "from 1 to 65535"),
    (["::1:5010"], "in brackets"),
    (["[::g]:5010"], "no IPv6 address"),
    (["two words:5010"], "neither a host name"),
    (["--max-memory", "much"], "no size"),
    (["--max-memory", "1K"], "--max-memory"),
    (["--host", "0.0.0.0"], "--insecure"),
    (["--host", "example.org"], "--host"),
    (["--advertise", "two words"], "--advertise"),
    (["--advertise", ""], "--advertise"),
    (["--advertise", "host:3010"], "without a port"),
    (["--host", "192.0.2.1", "--insecure"], "cannot be bound"),
])
def test_the_server_refuses_options_in_a_sentence(
    options: list[str], reason: str, tmp_path: Path
) -> None:
    assert reason in server_refuses(tmp_path / "data", *options)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("ports", "reason"), [
    (("x", "0"), "HTTP_PORT"), (("70000", "0"), "HTTP_PORT"), (("0", "-1"), "-1"),
    (("4711", "4711"), "both 4711"),
])
def test_the_server_refuses_ports_that_are_none(
    ports: tuple[str, str], reason: str, tmp_path: Path
) -> None:
    assert reason in server_refuses(tmp_path / "data", ports=ports)


def test_the_server_takes_settings_from_the_environment(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seafoam", "server", "0", "0"], capture_output=True, text=True,
        env=environment(SEAFOAM_DATA_DIR=str(tmp_path), SEAFOAM_MAX_MEMORY="12"), timeout=60,
    )
    assert (done.returncode, "--max-memory" in done.stderr) == (USAGE, True), done.stderr


@pytest.mark.parametrize("which", ["HTTP_PORT", "PEER_PORT"])
def test_a_port_in_use_is_a_sentence_and_leaves_nothing_behind(which: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = (port, "0") if which == "HTTP_PORT" else ("0", port)
        said = server_refuses(tmp_path / "data", ports=ports)
    assert f"{which} {port} is in use" in said
    assert not (tmp_path / "data").exists()


def test_a_directory_in_use_is_a_sentence(node: NodeProcess) -> None:
    assert str(node.data_dir) in server_refuses(node.data_dir)
    assert seafoam("--node", node.address, "status")[0] == DONE


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "letter.txt").write_text("dear")
    assert str(tmp_path / "data") in server_refuses(tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["letter.txt"]


def test_a_directory_that_cannot_be_made_or_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in server_refuses(tmp_path / "file")
    assert "file" in server_refuses(tmp_path / "file" / "below")
    if os.geteuid() == 0:
        return  # nothing is unreadable to the superuser
    (tmp_path / "closed").mkdir(mode=0)
    assert "closed" in server_refuses(tmp_path / "closed")


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A data directory with some writes in it, whose node has ended."""
    with NodeProcess(tmp_path / "data") as node:
        for number in range(50):
            pair = {"key": f"key/{number}", "value": f"value-{number}"}
            assert node.call("/set", pair)[0] == 200
        assert node.stop() == 0
    return tmp_path / "data"


def first_segment(data_dir: Path) -> Path:
    return min((data_dir / "wal").glob("*.wal"))


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_a_stopped_node_says_nothing_of_damage(used: Path) -> None:
    with NodeProcess(used) as node:
        assert node.get_many(["key/0", "key/49"]) == ["value-0", "value-49"]


def test_a_flipped_bit_in_the_log_is_named_by_file_and_offset(used: Path) -> None:
    segment = first_segment(used)
    offset = segment.read_bytes().index(b"value-25")
    flip(segment, offset)
    said = server_refuses(used)
    assert segment.name in said
    named = [int(number) for number in re.findall(r"\b(\d+)\b", said)]
    assert any(offset - 200 < number <= offset for number in named), said
    flip(segment, offset)
    with NodeProcess(used) as node:
        assert node.get_many(["key/25"]) == ["value-25"]


def test_a_segment_of_a_later_version_is_refused_by_its_version(used: Path) -> None:
    from seafoam._core.pack import crc32c

    segment = first_segment(used)
    with segment.open("r+b") as file:
        preamble = file.read(8) + (7).to_bytes(4, "little")
        file.seek(0)
        file.write(preamble + crc32c(preamble).to_bytes(4, "little"))
    said = server_refuses(used)
    assert segment.name in said and "version 7" in said, said


def test_a_damaged_name_tag_of_the_directory_is_a_sentence(used: Path) -> None:
    flip(used / "META", 17)
    assert "META" in server_refuses(used)
