"""Readers: several keys at one point in time, the GIL, bounds, other processes, writer death."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gil import ran_inside
from map_support import in_child, new_writer, sized, stamped, wait_for
from seafoam._core import limits
from seafoam._core.map import MapReader, MapWriter
from seafoam.errors import Detached, Refusal


def test_readers_are_made_by_their_factories() -> None:
    with pytest.raises(TypeError, match=r"MapReader\.attach or MapWriter\.reader"):
        MapReader()


def test_an_attached_reader_reads_what_the_writers_own_reads() -> None:
    writer = new_writer()
    for number in range(2000):
        writer.set(f"k{number}", b"%d" % number * 20, number + 1)
    descriptor = writer.reader_fd()
    reader = MapReader.attach(descriptor)
    os.close(descriptor)
    assert not reader.segment.is_writable
    for number in range(2000):
        assert reader.get_versioned(f"k{number}") == (b"%d" % number * 20, number + 1)
    writer.set("later", b"x" * 100_000, 3000)
    assert reader.get("later") == b"x" * 100_000
    assert (reader.applied_index, reader.keys) == (3000, 2001)


def test_a_reader_keeps_the_memory_of_a_writer_that_is_gone() -> None:
    writer = new_writer()
    writer.set("a", b"1", 1)
    reader = writer.reader()
    del writer
    assert not reader.is_attached
    with pytest.raises(Detached):
        reader.get("a")


# --- several keys ---


def test_ten_thousand_keys_at_once_and_not_one_more() -> None:
    writer = new_writer()
    for number in range(0, 10_000, 3):
        writer.set(f"k{number}", b"%d" % number, number + 1)
    reader = writer.reader()
    keys = [f"k{number}" for number in range(10_000)]
    values, versions = reader.get_many_versioned(iter(keys))
    assert values == [b"%d" % n if n % 3 == 0 else None for n in range(10_000)]
    assert versions == [n + 1 if n % 3 == 0 else 0 for n in range(10_000)]
    with pytest.raises(ValueError, match="10001 keys at once"):
        reader.get_many([*keys, "one more"])


def test_values_over_the_bound_are_refused() -> None:
    writer = new_writer()
    for number in range(10):
        writer.set(f"k{number}", bytes(1000), 1)
    reader = writer.reader()
    keys = [f"k{number}" for number in range(10)]
    assert reader.get_many([*keys, "none"], 10_000)[9] == bytes(1000)
    assert reader.get_many_versioned(keys, 10_000)[1] == [1] * 10
    for method in (reader.get_many, reader.get_many_versioned):
        with pytest.raises(Refusal) as refused:
            method(keys, 9999)
        assert refused.value.code == "too_large"


def test_a_multi_key_entry_that_does_not_end_is_overloaded_for_multi_key_reads_only() -> None:
    writer = new_writer()
    writer.set("a", b"1", 1)
    reader = writer.reader()
    writer.begin(2, writes_many=True)
    with pytest.raises(Refusal) as refused:
        reader.get_many(["a"])
    assert refused.value.code == "overloaded"
    assert reader.contended_count == 1 and reader.retry_count > 0
    assert reader.get("a") == b"1" and reader.scan()[0] == [b"a"]
    writer.end()
    assert reader.get_many(["a"]) == [b"1"]
    writer.begin(3)  # one key: no wait
    assert reader.get_many(["a"]) == [b"1"]
    writer.end()


SUM = 1_000_000


def transfers(writer: MapWriter, go_on: Callable[[int], bool]) -> None:
    """Moves amounts between accounts, in entries of two and more keys; the sum stays."""
    accounts = [SUM // 20] * 20
    index = 1
    while go_on(index):
        index += 1
        source, target = index % 20, index * 7 % 19
        amount = index % 1000
        accounts[source] -= amount
        accounts[target] += amount
        writer.begin(index, writes_many=True)
        for number in {source, target}:
            # The length changes too, so that values move between size classes.
            writer.set(f"a{number}", b"%d%*s" % (accounts[number], index % 100, b""), index)
        writer.end()


def accounts_writer() -> MapWriter:
    writer = new_writer(quarantine_entries=0)
    writer.begin(1, writes_many=True)
    for number in range(20):
        writer.set(f"a{number}", b"%d" % (SUM // 20), 1)
    writer.end()
    return writer


def check_sums(reader: MapReader, times: int) -> None:
    keys = [f"a{number}" for number in range(20)]
    newest = done = refused = 0
    while done < times:
        try:
            values, versions = reader.get_many_versioned(keys)
        except Refusal:  # the writer was put to sleep within an entry: nothing was claimed
            refused += 1
            assert refused < 1000 + times
            continue
        done += 1
        assert sum(int(value or b"") for value in values) == SUM, (values, versions)
        # One point in time, and never an older one than before.
        assert max(versions) >= newest
        newest = max(versions)
        assert reader.applying_index >= newest


def test_several_keys_are_read_at_one_point_in_time_by_threads() -> None:
    writer = accounts_writer()
    reader = writer.reader()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            check_sums(reader, sized(1500, 200_000))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    transfers(writer, lambda _: any(thread.is_alive() for thread in threads))
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_several_keys_are_read_at_one_point_in_time_by_processes() -> None:
    writer = accounts_writer()
    descriptor = writer.reader_fd()

    def read() -> None:
        reader = MapReader.attach(descriptor)
        check_sums(reader, sized(1000, 200_000))
        # Until the writer was met in the middle of something.
        rounds = 0
        while reader.retry_count == 0 and rounds < 200:
            check_sums(reader, 200)
            rounds += 1
        assert reader.retry_count > 0

    children = [in_child(read) for _ in range(2)]
    left = set(children)

    def some_left(_: int) -> bool:
        for child in list(left):
            # WNOWAIT leaves the exit status for wait_for.
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                left.discard(child)
        return bool(left)

    transfers(writer, some_left)
    os.close(descriptor)
    wait_for(children)
    writer.verify()


RING = 200


def check_moments(reader: MapReader, times: int) -> None:
    """Key n % RING is set by entry n, one after another: at any moment, the newest RING entries.

    The keys are read in an order of their own, so that a pass meets writes on both sides.
    """
    keys = [f"m{number}" for number in range(RING)]
    random.Random(1).shuffle(keys)
    done = refused = newest = 0
    while done < times or (reader.retry_count == 0 and done < 100 * times):
        try:
            values, versions = reader.get_many_versioned(keys)
        except Refusal:
            refused += 1
            assert refused < 1000 + times
            continue
        done += 1
        assert values == [b"%d" % version for version in versions]
        assert sorted(versions) == list(range(max(versions) - RING + 1, max(versions) + 1))
        assert max(versions) >= newest
        newest = max(versions)
    assert reader.retry_count > 0


def test_a_multi_key_read_is_one_moment_among_single_writes() -> None:
    writer = new_writer(quarantine_entries=0)
    names = [f"m{number}" for number in range(RING)]
    for version in range(1, RING + 1):
        writer.set(names[version % RING], b"%d" % version, version)
    descriptor = writer.reader_fd()
    child = in_child(lambda: check_moments(MapReader.attach(descriptor), sized(500, 100_000)))
    version = RING
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        for _ in range(RING):
            version += 1
            writer.set(names[version % RING], b"%d" % version, version)
    os.close(descriptor)
    wait_for([child])


# --- the GIL ---


def many_keys(writer: MapWriter) -> list[str]:
    keys = [f"k{number}" for number in range(10_000)]
    for key in keys:
        writer.set(key, b"value", 1)
    return keys


def paths_that_release() -> dict[str, Callable[[MapWriter], Callable[[], Any]]]:
    def get_many(writer: MapWriter) -> Callable[[], Any]:
        keys, reader = many_keys(writer), writer.reader()
        return lambda: reader.get_many(keys)

    def scan(writer: MapWriter) -> Callable[[], Any]:
        many_keys(writer)
        reader = writer.reader()
        return lambda: reader.scan(limit=10_000)

    def large_get(writer: MapWriter) -> Callable[[], Any]:
        writer.set("large", bytes(limits.VALUE_BYTES_MAX), 1)
        reader = writer.reader()
        return lambda: reader.get("large")

    def small_get(writer: MapWriter) -> Callable[[], Any]:
        writer.set("small", b"1", 1)
        reader = writer.reader(release_gil=True)
        return lambda: reader.get("small")

    return {"get_many": get_many, "scan": scan, "a get over 4 KiB": large_get,
            "a small get that was asked to": small_get}


@pytest.mark.parametrize("path", list(paths_that_release()))
def test_another_thread_runs_inside_a_read_that_releases_the_gil(
    path: str, no_forced_switches: None
) -> None:
    writer = new_writer()
    call = paths_that_release()[path](writer)
    # A small read lets go for a tenth of a microsecond only; a neighbour is rarely as quick.
    assert ran_inside(call, 500_000 if "small" in path else 5000)


@pytest.mark.parametrize("value_bytes", [1, 4096])
def test_a_small_get_keeps_the_gil(value_bytes: int, no_forced_switches: None) -> None:
    """The control: the same neighbour never gets a turn."""
    writer = new_writer()
    writer.set("small", bytes(value_bytes), 1)
    reader = writer.reader()
    assert not ran_inside(lambda: reader.get("small"), 20_000)
    assert not ran_inside(lambda: reader.get_versioned("none"), 20_000)


def test_the_writer_can_finish_while_a_multi_key_read_waits_for_it() -> None:
    """A read that waits does so without the GIL; one success proves it, for it needs the end."""
    writer = new_writer()
    writer.set("a", b"1", 1)
    reader = writer.reader()
    begun, finished = threading.Event(), threading.Event()
    stop = False

    def finish() -> None:
        while True:
            begun.wait()
            begun.clear()
            if stop:
                return
            writer.end()
            finished.set()

    thread = threading.Thread(target=finish)
    thread.start()
    try:
        for index in range(2, 2000):
            finished.clear()
            writer.begin(index, writes_many=True)
            begun.set()
            try:
                waited = reader.retry_count
                assert reader.get_many(["a"]) == [b"1"]
                if reader.retry_count > waited:
                    break
            except Refusal:
                pass
            finished.wait()
        else:
            pytest.fail("no multi-key read outlived the entry it waited for")
        finished.wait()
    finally:
        stop = True
        begun.set()
        thread.join()


# --- another process's writer ---


def start_writer() -> tuple[int, int]:
    """A process that writes without end: its id, and a reader's descriptor."""
    ours, theirs = socket.socketpair()

    def write() -> None:
        writer = new_writer(quarantine_entries=0)
        for number in range(100):
            writer.set(f"k{number}", stamped(f"k{number}", number, 3000), number)
        socket.send_fds(theirs, [b"here"], [writer.reader_fd()])
        version = 100
        while True:
            key = f"k{version % 100}"
            writer.set(key, stamped(key, version, 3000), version)
            version += 1

    child = in_child(write)
    _, descriptors, _, _ = socket.recv_fds(ours, 10, 1)
    ours.close()
    theirs.close()
    return child, descriptors[0]


@pytest.mark.skipif(sys.platform != "linux", reason="robust mutexes are Linux's")
def test_a_killed_writer_is_seen_by_every_kind_of_read() -> None:
    """Right until the last read; then Detached, for hits and misses, whatever was half done."""
    for _ in range(sized(5, 200)):
        child, descriptor = start_writer()
        reader = MapReader.attach(descriptor)
        os.close(descriptor)
        for _ in range(20):
            for number in range(100):
                found = reader.get_versioned(f"k{number}")
                assert found is not None
                assert found[0] == stamped(f"k{number}", found[1], 3000)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert not reader.is_attached
        for number in range(100):
            with pytest.raises(Detached):
                reader.get(f"k{number}")
        for read in (lambda r=reader: r.get("none"), lambda r=reader: r.get_many(["k1", "none"]),
                     lambda r=reader: r.get_versioned("k1"), reader.scan):
            with pytest.raises(Detached):
                read()
