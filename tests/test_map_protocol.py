"""The reading protocol under a writer at full speed: nothing torn, nothing missed, no way back.

Values say whose they are from end to end, so that any word of another entry in a copy is seen. The
quarantine is zero: memory is used again at once. Readers are threads that let go of the GIL and
forked processes that read through a mapping of their own.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable

from map_support import SEED, in_child, new_writer, sized, stamped, wait_for
from seafoam._core.map import MapReader, MapWriter
from seafoam._core.map_layout import hash_of
from seafoam.errors import Refusal

#: Few keys, so that readers and the writer meet. Most lengths take long to copy and share their
#: size class, so that what one write frees the next one fills; a read is begun anew only when its
#: entry's memory is used again, for a sequence that has moved is forgiven.
KEYS = ["k1", "k2"]
SIZES = (200_000, 199_000, 198_000, 5, 201_000, 202_000, 500, 197_000, 203_000, 204_000)
#: What a key holds at a version: made once, so that the writer does nothing but write.
VALUES = {key: [stamped(key, turn, SIZES[turn % len(SIZES)] + turn) for turn in range(60)]
          for key in KEYS}
#: A run has shown nothing unless reads met the writer: how many began anew, at least, and in the
#: long run which share of all. Threads meet less: a writer that is called from Python holds the
#: GIL, which a reader needs between finding and copying.
RETRIED_MIN = 25
RETRIED_SHARE = sized(0, 1) * 0.01
RETRIED_SHARE_OF_THREADS = sized(0, 1) * 0.001


def value_at(key: str, version: int) -> bytes:
    values = VALUES[key]
    return values[version % len(values)]


def churn(writer: MapWriter, go_on: Callable[[], bool], seed: int) -> None:
    """Overwrites, deletes and sets again, with sizes that change from write to write."""
    luck = random.Random(seed)
    version = 0
    while go_on():
        for _ in range(200):
            version += 1
            key = KEYS[luck.randrange(len(KEYS))]
            if version % 8 == 0:
                writer.delete(key)
            writer.set(key, value_at(key, version), version)


def read_checked(reader: MapReader, reads: int, seed: int, share: float) -> None:
    """So many reads, and more until enough of them met the writer; each is checked."""
    luck = random.Random(seed)
    newest: dict[str, int] = {}
    done = rounds = 0
    while done < reads or (reader.retry_count < max(RETRIED_MIN, share * done)
                           and rounds < 1000):
        rounds += done >= reads
        for _ in range(200):
            key = KEYS[luck.randrange(len(KEYS))]
            try:
                found = reader.get_versioned(key)
            except Refusal:  # contended: nothing was claimed
                continue
            if found is not None:
                assert found[0] == value_at(key, found[1]), f"{key} at {found[1]} is torn"
                assert found[1] >= newest.get(key, 0), f"{key} went back from {newest[key]}"
                newest[key] = found[1]
                assert reader.applying_index >= found[1]
            done += 1
    assert reader.retry_count >= max(RETRIED_MIN, share * done), (reader.retry_count, done)


def alive(children: list[int]) -> Callable[[], bool]:
    """Whether any of the processes has not ended yet; leaves their statuses to wait_for."""
    def some() -> bool:
        return any(os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
                   for child in children)

    return some


def test_processes_read_nothing_torn_under_churn() -> None:
    writer = new_writer(256 << 20, quarantine_entries=0)
    for key in KEYS:
        writer.set(key, value_at(key, 0), 0)
    descriptor = writer.reader_fd()

    def work(seed: int) -> Callable[[], None]:
        return lambda: read_checked(
            MapReader.attach(descriptor), sized(10_000, 3_000_000), seed, RETRIED_SHARE)

    children = [in_child(work(seed)) for seed in (1, 2)]
    churn(writer, alive(children), 3)
    os.close(descriptor)
    wait_for(children)
    writer.verify()


def test_threads_read_nothing_torn_under_churn() -> None:
    writer = new_writer(256 << 20, quarantine_entries=0)
    for key in KEYS:
        writer.set(key, value_at(key, 0), 0)
    failures: list[BaseException] = []
    reader = writer.reader(release_gil=True)

    def read(seed: int) -> None:
        try:
            read_checked(reader, sized(5000, 500_000), seed, RETRIED_SHARE_OF_THREADS)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    churn(writer, lambda: any(thread.is_alive() for thread in threads), 3)
    for thread in threads:
        thread.join()
    assert not failures, failures
    writer.verify()


def look_for_false_misses(reader: MapReader, total: int, seed: int) -> None:
    """Key i is set by entry i + 1 and stays: once applied says so, no read may miss it."""
    luck = random.Random(seed)
    keys = done = 0
    while keys < total:
        keys = reader.applied_index
        if keys == 0:
            continue
        # The newest are in the buckets that have just been split, or will be next.
        numbers = [luck.randrange(keys) for _ in range(20)] + [keys - 1, keys // 2]
        for number in numbers:
            found = reader.get_versioned(f"{number}")
            assert found == (b"%d" % number, number + 1), f"{number} of {keys} reads {found}"
        many = [f"{number}" for number in numbers]
        assert reader.get_many(many) == [b"%d" % number for number in numbers]
        done += 1
    assert done > 0


def test_no_key_is_missed_while_the_table_grows() -> None:
    total = sized(300_000, 5_000_000)
    writer = new_writer(total * 120)
    descriptor = writer.reader_fd()
    children = [
        in_child(lambda: look_for_false_misses(MapReader.attach(descriptor), total, 1)),
        in_child(lambda: look_for_false_misses(MapReader.attach(descriptor), total, 2)),
    ]
    for number in range(total):
        writer.set(f"{number}", b"%d" % number, number + 1)
    os.close(descriptor)
    wait_for(children)
    writer.verify()


def look_where_it_splits(reader: MapReader, total: int) -> None:
    """Reads the keys of the buckets that are split now: a split between a reader's two loads is
    a false miss, unless the bucket's own level is looked at."""
    staying = [f"stay{number}" for number in range(2000)]
    level = total // 10 - 1  # all its bits are set: the mask of the table while it doubles
    by_bucket: dict[int, list[str]] = {}
    for key in staying:
        by_bucket.setdefault(hash_of(SEED, key.encode()) & level, []).append(key)
    keys = 0
    while keys < total:
        keys = reader.keys
        splitting = keys // 5 - (level + 1)
        for bucket in range(splitting, splitting + 6):
            for key in by_bucket.get(bucket, ()):
                assert reader.get(key) == b"here", f"{key} was missed at {keys} keys"


def test_no_key_is_missed_in_the_bucket_that_is_being_split() -> None:
    """The table doubles from 4,096 buckets to 8,192, once for each round."""
    total = 8192 * 5
    for _ in range(sized(3, 300)):
        writer = new_writer(total * 120)
        for number in range(2000):
            writer.set(f"stay{number}", b"here", 0)
        number = 0
        while writer.keys < total // 2:
            number += 1
            writer.set(f"{number}", b"", 0)
        descriptor = writer.reader_fd()
        child = in_child(lambda fd=descriptor: look_where_it_splits(MapReader.attach(fd), total))
        while writer.keys < total:
            number += 1
            writer.set(f"{number}", b"", 0)
        os.close(descriptor)
        wait_for([child])


def scan_checked(reader: MapReader, times: int, staying: set[bytes]) -> None:
    for limit in [1000, 37] * (times // 2):
        found: list[bytes] = []
        after: str | None = ""
        while after is not None:
            keys, values, after = reader.scan(after=after, limit=limit, values=True)
            assert values is not None
            found += keys
            for key, value in zip(keys, values, strict=True):
                # "<key@version>" again and again: a torn value does not repeat.
                stamp = value[:value.find(b">") + 1]
                assert stamp.startswith(b"<" + key + b"@")
                assert (stamp * (len(value) // len(stamp) + 1))[:len(value)] == value
        missed = staying - set(found)
        assert not missed, f"{len(missed)} staying keys were missed"
        assert len([key for key in found if key in staying]) == len(staying), "a key came twice"


def test_scans_miss_no_staying_key_under_churn_and_growth() -> None:
    luck = random.Random(9)
    writer = new_writer(128 << 20, quarantine_entries=0)
    staying = [f"stay{number}" for number in range(500)]
    for key in staying:
        writer.set(key, stamped(key, 0, 50), 0)
    descriptor = writer.reader_fd()
    names = {key.encode() for key in staying}

    def work() -> None:
        scan_checked(MapReader.attach(descriptor), sized(20, 1000), names)

    children = [in_child(work) for _ in range(2)]
    go_on, version, grown = alive(children), 0, 0
    while go_on():
        for _ in range(200):
            version += 1
            key = luck.choice(staying)
            writer.set(key, stamped(key, version, 20 + luck.randrange(600)), version)
            if grown < 20_000:
                grown += 1
            grow = f"grow{version % 20_000}"
            if luck.random() < 0.3:
                writer.delete(grow)
            else:
                writer.set(grow, stamped(grow, version, 40), version)
    os.close(descriptor)
    wait_for(children)
    writer.verify()


def test_reads_during_evacuation() -> None:
    """Entries move between windows under readers; each stays what it was."""
    writer = new_writer(512 << 20, quarantine_entries=0)
    keys = [f"k{number}" for number in range(sized(30_000, 200_000))]
    for key in keys:
        writer.set(key, stamped(key, 1, 1500), 1)
    kept = keys[::10]
    descriptor = writer.reader_fd()

    def work() -> None:
        reader = MapReader.attach(descriptor)
        luck = random.Random(1)
        while reader.applied_index < 2 or reader.keys > len(kept) + 50:
            for _ in range(100):
                key = luck.choice(kept)
                assert reader.get_versioned(key) == (stamped(key, 1, 1500), 1)
        assert reader.get_many(kept[:5000]) == [stamped(key, 1, 1500) for key in kept[:5000]]

    children = [in_child(work) for _ in range(2)]
    for number, key in enumerate(keys):
        if number % 10:
            writer.delete(key)
    for number in range(2000):  # writes that keep evacuation going
        writer.set("other", b"%d" % number, 2)
        writer.delete("other")
    assert writer.arena.evacuated_window_count > 0
    os.close(descriptor)
    wait_for(children)
    writer.verify()
