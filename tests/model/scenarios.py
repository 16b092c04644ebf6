"""What the writer does and what a reader does, for each race that the shared map could lose.

Owns the choice of keys and values that make the race likely: keys of one bucket, of one tag, that
move in a split, and values that look like entries. Each scenario is judged by model.driver.

The memory that a write frees is used by the next one that needs as much: quarantine is zero.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from model.checker import Plan
from model.driver import Entry, Observer
from model.hashing import siphash13

SEED = bytes(range(16))
FIRST_BUCKET_COUNT = 64
KEYS_PER_BUCKET = 5
BUCKET_SLOT_COUNT = 10
#: Reads that keep something across a retry: no shortcut at spin_pause.
KEEPING = Plan(restart_on_pause=False, pauses_max=2)


def sampled(execution_max: int, seed: int = 1) -> Plan:
    """For what has too many paths to take them all: chains whose tags are stored byte by byte."""
    return Plan(seed=seed, execution_max=execution_max, pauses_max=2, restart_on_pause=False)


def tag_of(key: bytes) -> int:
    """The one-byte tag under which the map keeps a key."""
    return siphash13(SEED, key) >> 56 or 1


def bucket_of(key: bytes, bucket_count: int = FIRST_BUCKET_COUNT) -> int:
    """The key's bucket in a table of a power of two."""
    return siphash13(SEED, key) % bucket_count


def keys_where(fits: Callable[[bytes], bool], prefix: str = "k") -> Iterator[bytes]:
    """Keys of eight bytes that fit, in a fixed order."""
    number = 0
    while True:
        key = f"{prefix}{number:0{8 - len(prefix)}d}".encode()
        if fits(key):
            yield key
        number += 1


def take(count: int, fits: Callable[[bytes], bool], prefix: str = "k") -> list[bytes]:
    """The first so many of them."""
    keys = keys_where(fits, prefix)
    return [next(keys) for _ in range(count)]


@dataclass(frozen=True)
class Scenario:
    """A writer's history and a reader's program."""

    name: str
    entries: list[Entry]
    read: Callable[[Observer], None]
    before: list[Entry] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)


def sets(*pairs: tuple[bytes, bytes]) -> list[Entry]:
    """An entry for each pair."""
    return [[pair] for pair in pairs]


# Two keys of one bucket and one tag, one of that bucket with another tag, one of another bucket.
A = take(1, lambda key: True)[0]
B = take(
    1, lambda key: key != A and bucket_of(key) == bucket_of(A) and tag_of(key) == tag_of(A)
)[0]
C = take(1, lambda key: bucket_of(key) == bucket_of(A) and tag_of(key) != tag_of(A))[0]
D = take(1, lambda key: bucket_of(key) != bucket_of(A))[0]


def read_twice(observer: Observer) -> None:
    observer.get(A)
    observer.get(A)
    observer.applying_covers()


def overwrite() -> Scenario:
    """Values of several words and one size class, so that the third is where the first was."""
    return Scenario("overwrite", sets((A, b"2" * 15), (A, b"3" * 15)), read_twice,
                    before=sets((A, b"1" * 15)))


def overwrite_longer() -> Scenario:
    """Values of several words and several classes, under a neighbour's writes as well."""
    return Scenario("overwrite_longer", sets((C, b"c" * 9), (A, b"2" * 15), (C, b"d" * 9)),
                    read_twice, before=sets((A, b"1" * 15), (C, b"b" * 9)))


def delete_and_set() -> Scenario:
    return Scenario("delete_and_set", [[(A, None)], [(A, b"again")]], read_twice,
                    before=sets((A, b"first")))


def first_set() -> Scenario:
    """A key that was not there, beside one that stays: no false miss of the other."""
    def read(observer: Observer) -> None:
        observer.get(A)
        observer.get(C)
        observer.get(A)

    return Scenario("first_set", sets((A, b"new"), (C, b"newer")), read, before=sets((C, b"old")))


def slot_reuse() -> Scenario:
    """B takes A's slot, tag and memory; and A comes back in B's."""
    def read(observer: Observer) -> None:
        observer.get(A)
        observer.get(B)

    return Scenario("slot_reuse", [[(A, None)], [(B, b"bbb")], [(B, None)], [(A, b"aaa")]], read,
                    before=sets((A, b"AAA")))


def forgotten_place() -> Scenario:
    """A goes; B of the same tag takes its slot, but not its memory, where A still looks whole.

    D keeps the page that A was in.
    """
    def read(observer: Observer) -> None:
        observer.get(A)
        observer.get(A)

    return Scenario("forgotten_place", [[(A, None)], [(B, b"b" * 40)]], read,
                    before=sets((D, b"ddd"), (A, b"AAA")))


def same_tag() -> Scenario:
    """Of one bucket and tag: one key changes, one stays, one is absent but for a longer one."""
    def meets(key: bytes) -> bool:
        return bucket_of(key) == bucket_of(A) and tag_of(key) == tag_of(A)

    absent = take(1, lambda key: key not in (A, B) and meets(key))[0]
    longer = absent + take(1, lambda suffix: meets(absent + suffix))[0]

    def read(observer: Observer) -> None:
        observer.get(absent)
        observer.get(B)

    return Scenario("same_tag", sets((A, b"2")), read,
                    before=sets((A, b"1"), (B, b"bb"), (longer, b"l")))


def page_class() -> Scenario:
    """A page changes its size class, and a value shows A's old generation where A was.

    D and A fill the first two slots of a page. Both go, the page is laid out anew, and C's value
    covers A's entry with a forgery: the same generation and key, another value.
    """
    slot_bytes = 48                             # 20 of header, 8 of key, 20 of value
    generation_of_a = 2                         # the second put of a fresh map
    header = struct.pack("<QQI", generation_of_a, 2, 20 << 11 | len(A))
    forged = header + A + b"forgery forged!!" * 2
    start = 20 + len(C)
    value = bytes(slot_bytes - start) + forged if start < slot_bytes else b""
    value = value.ljust(400, b".")

    def read(observer: Observer) -> None:
        observer.get(A)
        observer.get(C)

    return Scenario("page_class", [[(D, None)], [(A, None)], [(C, value)]], read,
                    before=sets((D, b"d" * 20), (A, b"a" * 20)))


def long_reuse() -> Scenario:
    """An entry over several pages goes; what comes begins in a later one of its pages."""
    fillers = [(key, bytes(16 * at)) for at, key in enumerate(take(14, lambda key: key != A, "f"))]

    def read(observer: Observer) -> None:
        observer.get(A)

    return Scenario("long_reuse", [[(A, None)], [(D, b"n" * 3000)]], read,
                    before=[*sets(*fillers), *sets((A, b"o" * 70_000))], plan=sampled(2_000))


def evacuation() -> Scenario:
    """A sparse window is emptied: A moves, and what it left is used again.

    Seven windows of four mebibytes are filled with entries that take 64 KiB each. All of the
    first window's go, but for A; then others, until what is scattered exceeds half of what is
    live and sixteen mebibytes.
    """
    large = take(7 * 63, lambda key: bucket_of(key) != bucket_of(A), "e")
    gone = large[:64] + [key for at, key in enumerate(large[64:]) if at % 4 != 0]
    deletes: list[Entry] = [[(key, None)] for key in gone]
    crossing = 305                              # the delete behind which it exceeds that

    def read(observer: Observer) -> None:
        observer.get(A)
        observer.get(A)
        observer.get(B)

    return Scenario("evacuation", [*deletes[crossing - 2:crossing + 2], [(B, b"b" * 15)]], read,
                    before=[[(A, b"a" * 15)], *sets(*((key, bytes(60_000)) for key in large)),
                            *deletes[:crossing - 2]])


def growth_before(count: int = KEYS_PER_BUCKET * FIRST_BUCKET_COUNT) -> list[Entry]:
    """So many keys that the next one splits bucket 0; two of it move, two stay."""
    moving = take(2, lambda key: bucket_of(key, 128) == 64, "m")
    staying = take(2, lambda key: bucket_of(key, 128) == 0, "s")
    others = take(count - 4, lambda key: bucket_of(key) not in (0, 1))
    return sets(*((key, b"v" + key[-2:]) for key in [*moving, *staying, *others]))


MOVING = take(3, lambda key: bucket_of(key, 128) == 64, "m")
STAYING = take(3, lambda key: bucket_of(key, 128) == 0, "s")
LATER = take(4, lambda key: bucket_of(key) not in (0, 1), "l")


def split() -> Scenario:
    """Bucket 0 splits: a key that moves, one that stays, and one that is in neither half."""
    def read(observer: Observer) -> None:
        observer.get(MOVING[0])
        observer.get(STAYING[0])
        observer.get(MOVING[2])

    return Scenario("split", sets((LATER[0], b"x")), read, before=growth_before())


def split_and_write() -> Scenario:
    """Behind the split the keys are written in their new places."""
    def read(observer: Observer) -> None:
        observer.get(MOVING[0])
        observer.get(MOVING[2])

    return Scenario("split_and_write",
                    [*sets((LATER[0], b"x"), (MOVING[0], b"y"), (MOVING[2], b"z")),
                     [(MOVING[0], None)]], read, before=growth_before())


def overflow() -> Scenario:
    """More keys than a bucket has slots; a line leaves one chain and joins another."""
    first = take(BUCKET_SLOT_COUNT + 1, lambda key: bucket_of(key) == 5, "p")
    second = take(BUCKET_SLOT_COUNT + 1, lambda key: bucket_of(key) == 6, "q")

    def read(observer: Observer) -> None:
        observer.get(first[-1])
        observer.get(second[-1])
        observer.get(first[0])

    return Scenario("overflow", [[(first[-1], None)], [(second[-1], b"2")], [(first[-1], b"3")]],
                    read, before=sets(*((key, b"1") for key in [*first, *second[:-1]])))


def overflow_split() -> Scenario:
    """A chain of two lines splits."""
    moving = take(6, lambda key: bucket_of(key, 128) == 64, "m")
    staying = take(6, lambda key: bucket_of(key, 128) == 0, "s")
    others = take(KEYS_PER_BUCKET * FIRST_BUCKET_COUNT - 12, lambda key: bucket_of(key) > 1)

    def read(observer: Observer) -> None:
        observer.get(moving[5])
        observer.get(staying[5])

    return Scenario("overflow_split", sets((LATER[0], b"x")), read, plan=sampled(20_000),
                    before=sets(*((key, b"v") for key in [*moving, *staying, *others])))


def multi_write() -> Scenario:
    """Entries of two keys each, against a multi-key read and a single one behind it."""
    def read(observer: Observer) -> None:
        observer.get_many([A, D])
        observer.get(A)
        observer.applying_covers()

    return Scenario("multi_write", [[(A, b"2"), (D, b"2")], [(D, b"3"), (A, b"3")]], read,
                    before=[[(A, b"1"), (D, b"1")]], plan=KEEPING)


def many_singles() -> Scenario:
    """Entries of one key each: a multi-key read sees them in their order."""
    def read(observer: Observer) -> None:
        observer.get_many([A, D, A])

    return Scenario("many_singles", sets((A, b"2"), (D, b"2"), (A, b"3")), read,
                    before=sets((A, b"1"), (D, b"1")), plan=KEEPING)


def many_under_split() -> Scenario:
    def read(observer: Observer) -> None:
        observer.get_many([MOVING[0], STAYING[0], MOVING[2]])

    return Scenario("many_under_split", sets((LATER[0], b"x"), (MOVING[2], b"z")), read,
                    before=growth_before(), plan=sampled(20_000))


def many_misses() -> Scenario:
    """One key goes when the other comes: never both, never neither."""
    def read(observer: Observer) -> None:
        observer.get_many([A, D])

    return Scenario("many_misses", [[(A, None), (D, b"d")], [(D, None), (A, b"a")]], read,
                    before=sets((A, b"1")), plan=KEEPING)


def positions() -> Scenario:
    """What `applied` says is there to see; what is seen is not above `applying`."""
    def read(observer: Observer) -> None:
        observer.applied()
        observer.get(A)
        observer.applying_covers()

    return Scenario("positions", [[(A, b"2")], [(A, None)], [(A, b"4")]], read,
                    before=sets((A, b"1")))


def multi_positions() -> Scenario:
    def read(observer: Observer) -> None:
        observer.applied()
        observer.get_many([A, D])
        observer.applying_covers()

    return Scenario("multi_positions", [[(A, b"2"), (D, b"2")], [(A, b"3")]], read,
                    before=sets((A, b"1"), (D, b"1")), plan=KEEPING)


def scan_under_writes() -> Scenario:
    """A few keys, of which one goes, one comes and one changes."""
    def read(observer: Observer) -> None:
        observer.scan(limit=2)

    return Scenario("scan_under_writes", [[(A, b"2")], [(C, None)], [(B, b"b")]], read,
                    before=sets((A, b"1"), (C, b"c"), (D, b"d")),
                    plan=sampled(20_000))


def scan_under_split() -> Scenario:
    """Pages of a scan while the first bucket splits and what moved is overwritten."""
    def read(observer: Observer) -> None:
        observer.scan(limit=3)

    return Scenario("scan_under_split", sets((LATER[0], b"x"), (MOVING[0], b"new")), read,
                    before=growth_before(),
                    plan=sampled(500))


def fuzz(number: int) -> Scenario:
    """Random writes and reads of a few keys that meet each other; the number is the seed."""
    luck = random.Random(number)
    keys = [A, B, C, D]
    sizes = (0, 3, 15, 20, 40, 200, 3000)

    def entry(write_count_max: int = 2) -> Entry:
        chosen = luck.sample(keys, luck.randint(1, write_count_max))
        return [(key, None if luck.random() < 0.25 else bytes([luck.randrange(256)])
                 * luck.choice(sizes)) for key in chosen]

    program = [(luck.choice(("get", "get", "get", "many", "applied", "applying")),
                luck.sample(keys, 2)) for _ in range(4)]

    def read(observer: Observer) -> None:
        for call, chosen in program:
            if call == "get":
                observer.get(chosen[0])
            elif call == "many":
                observer.get_many(chosen)
            elif call == "applied":
                observer.applied()
            else:
                observer.applying_covers()

    return Scenario(f"fuzz-{number}", [entry() for _ in range(luck.randint(2, 6))], read,
                    before=[entry(4) for _ in range(luck.randint(0, 4))],
                    plan=sampled(300, seed=number))


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    make.__name__: make for make in (
        overwrite, overwrite_longer, delete_and_set, first_set, slot_reuse, forgotten_place,
        same_tag, page_class,
        long_reuse, split, split_and_write, overflow, overflow_split, multi_write, many_singles,
        many_under_split, many_misses, positions, multi_positions, scan_under_writes,
        scan_under_split, evacuation)
}


def scenario_named(name: str) -> Scenario:
    """One of SCENARIOS, or fuzz-N."""
    return fuzz(int(name[5:])) if name.startswith("fuzz-") else SCENARIOS[name]()
