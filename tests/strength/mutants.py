"""The planted bugs: what each changes, why that is wrong, and which instrument should find it.

An instrument is written "model:SCENARIOS" (tests/model on the map as it is), "lenient:SCENARIOS"
(tests/model on the map whose readers take hits leniently at once), "races:ARGUMENTS" or
"pytest:TEST". Where several stand, they are asked in turn until one finds it.
"""

from __future__ import annotations

from dataclasses import dataclass

from planting import Edit

CORE = "seafoam/_core/"
ATOMICS, ARENA = CORE + "atomics.h", CORE + "arena.pyx"
PROTOCOL, READER = CORE + "map_protocol.pxd", CORE + "map_reader.pyx"
SCAN, SEGMENT, WRITER = CORE + "map_scan.pyx", CORE + "segment.pxd", CORE + "map_writer.pyx"
WORDS = CORE + "map_words.pxd"


@dataclass(frozen=True)
class Mutant:
    """One planted bug."""

    name: str
    why: str
    instruments: tuple[str, ...]
    edits: tuple[Edit, ...]


def mutant(name: str, why: str, instruments: str | tuple[str, ...], *edits: Edit) -> Mutant:
    """A mutant, with one instrument or several."""
    asked = (instruments,) if isinstance(instruments, str) else instruments
    return Mutant(name, why, asked, edits)


ORDERINGS = [
    mutant("acquire-fence-dropped", "a copy may hold words newer than the second look",
           "model:overwrite",
           Edit(ATOMICS, "    fence_acquire();\n    return load_relaxed_u64(source);",
                "    return load_relaxed_u64(source);")),
    mutant("release-fence-dropped", "words may be seen before the odd sequence",
           "model:overwrite",
           Edit(ATOMICS, "    store_relaxed_u64(target, value);\n    fence_release();\n",
                "    store_relaxed_u64(target, value);\n")),
    mutant("slot-fence-dropped", "the lenient second look at the slot may be a stale one",
           "lenient:page_class --seed 1 --executions 200000",
           Edit(ATOMICS, "    fence_acquire();\n    return load_relaxed_u32(source);",
                "    return load_relaxed_u32(source);")),
    mutant("sequence-loaded-relaxed", "slots older than the sequence are taken for its own",
           "model:many_singles",
           Edit(PROTOCOL, "bucket.sequence = load_acquire_u64(bucket.line)",
                "bucket.sequence = load_relaxed_u64(bucket.line)")),
    mutant("even-sequence-stored-relaxed", "the even sequence is seen before the slots",
           "model:many_singles",
           Edit(WORDS, "    store_release_u64(bucket, load_relaxed_u64(bucket) + 1)",
                "    store_relaxed_u64(bucket, load_relaxed_u64(bucket) + 1)")),
    mutant("bucket-count-stored-relaxed", "a new bucket is found before it is filled",
           "model:split",
           Edit(WRITER, "store_release_u64(&self._view.header.bucket_count, self.bucket_count)",
                "store_relaxed_u64(&self._view.header.bucket_count, self.bucket_count)")),
    mutant("bucket-count-loaded-relaxed", "a new bucket is looked at as it was before",
           "model:split",
           Edit(PROTOCOL, "bucket_index_of(hash, load_acquire_u64(&view.header.bucket_count))",
                "bucket_index_of(hash, load_relaxed_u64(&view.header.bucket_count))")),
    mutant("page-fence-dropped", "a page's new generation is seen before the slot is empty",
           "lenient:page_class", Edit(ARENA, "        fence_release()\n", "")),
    mutant("generation-loaded-relaxed", "a key older than the generation passes for its entry's",
           "lenient:overwrite slot_reuse delete_and_set page_class",
           Edit(PROTOCOL, "entry.generation = load_acquire_u64(entry.words)",
                "entry.generation = load_relaxed_u64(entry.words)")),
    mutant("generation-stored-relaxed", "an entry's generation is seen before its words",
           "lenient:overwrite slot_reuse delete_and_set page_class",
           Edit(WRITER, "        store_release_u64(words, self._generation)",
                "        store_relaxed_u64(words, self._generation)")),
]

READERS = [
    mutant("odd-sequence-accepted", "a bucket is read in the middle of a change",
           "model:split",
           Edit(PROTOCOL, "bucket.sequence & 1 == 0 and hash & level_mask", "hash & level_mask")),
    mutant("level-not-checked", "after a split, a key is missed where it was before",
           "model:split",
           Edit(PROTOCOL, " and hash & level_mask(bucket.level) == index", "")),
    mutant("hit-not-validated", "an entry is taken that no slot names yet, or any more",
           "model:overwrite",
           Edit(PROTOCOL, "                if bucket_is_unmoved(&found.bucket):\n",
                "                if True:\n")),
    mutant("miss-not-validated", "a key that is just being moved is missed",
           "model:split overwrite",
           Edit(PROTOCOL, "    return STATUS_NOT_FOUND if bucket_is_unmoved(&found.bucket) "
                "else STATUS_CONTENDED", "    return STATUS_NOT_FOUND")),
    mutant("copy-not-confirmed", "a copy may hold another entry's words",
           "model:overwrite",
           Edit(PROTOCOL, "    return bucket_is_unmoved(&found.bucket) or "
                "entry_is_intact(&found.entry)", "    return True")),
    mutant("copy-not-confirmed-at-speed", "the same, for the instrument that runs at full speed",
           "races:--writes 3000000",
           Edit(PROTOCOL, "    return bucket_is_unmoved(&found.bucket) or "
                "entry_is_intact(&found.entry)", "    return True")),
    mutant("entry-generation-not-checked", "a copy may hold words of the place's next entry",
           "model:overwrite",
           Edit(PROTOCOL, "    return (validate_load_u64(entry.words) == entry.generation\n"
                "            and ", "    return (")),
    mutant("page-generation-not-checked", "a value that looks like the entry's start is believed",
           "model:page_class",
           Edit(PROTOCOL, "\n            and validate_load_u64(entry.page_generation_word) == "
                "entry.page_generation)", ")")),
    mutant("key-not-compared", "another key of the same tag answers",
           "model:same_tag",
           Edit(PROTOCOL, "    if entry.key_bytes != left_bytes:\n        return False\n",
                "    if entry.key_bytes != left_bytes:\n        return False\n"
                "    if left_bytes != 0:\n        return True\n")),
    mutant("key-length-not-compared", "a key whose beginning is the one looked for answers",
           "model:same_tag",
           Edit(PROTOCOL, "    if entry.key_bytes != left_bytes:\n        return False\n", "")),
    mutant("place-not-range-checked", "an offset leads anywhere",
           "model:damaged",
           Edit(PROTOCOL, "    if (offset_bytes < view.arena_offset_bytes\n"
                "            or offset_bytes + ENTRY_HEADER_BYTES + 4 > end_bytes):\n"
                "        return False\n", "")),
    mutant("lengths-not-range-checked", "a length leads beyond what is reserved",
           "model:damaged",
           Edit(PROTOCOL, "    return (entry.generation != 0 and entry.value_bytes <= "
                "VALUE_BYTES_MAX\n            and offset_bytes + ENTRY_HEADER_BYTES + "
                "entry.key_bytes + entry.value_bytes\n            <= end_bytes)",
                "    return entry.generation != 0")),
    mutant("link-not-range-checked", "a chain leads out of its region",
           "model:damaged",
           Edit(PROTOCOL, "    if line_number == 0 or line_number > view.overflow_limit_count:\n",
                "    if line_number == 0:\n")),
    mutant("lenient-slot-not-looked-at", "a removed entry is found by a stale slot",
           "lenient:overwrite slot_reuse",
           Edit(PROTOCOL, "                if is_lenient and validate_load_u32(slot) == place:",
                "                if is_lenient:")),
    mutant("many-not-rechecked", "keys of a multi-key read are of different moments",
           "model:many_singles",
           Edit(READER, "            if validate_load_u64(items[at].bucket_line) == "
                "items[at].sequence:", "            if True:")),
    mutant("multi-sequence-ignored", "half of an entry of two keys is seen",
           "model:multi_write",
           Edit(READER, "state.is_unmoved and validate_load_u64(multi_word) == multi_sequence",
                "state.is_unmoved"),
           Edit(READER, "            if multi_sequence & 1 == 0:\n", "            if True:\n")),
    mutant("multi-sequence-odd-accepted", "an entry of two keys is read in its middle",
           "model:multi_write",
           Edit(READER, "            if multi_sequence & 1 == 0:\n", "            if True:\n")),
    mutant("dead-writer-not-checked", "the map of a writer that was killed goes on answering",
           "pytest:test_map_reader.py::test_a_killed_writer_is_seen_by_every_kind_of_read",
           Edit(READER, "        return status if owner_lives(&self._view.header.owner) else "
                "STATUS_DETACHED", "        return status")),
    mutant("killed-owner-not-seen", "only a writer that closes is noticed, not one that is killed",
           "pytest:test_segment.py",
           Edit(SEGMENT, "            or not load_relaxed_u32(<const uint32_t*>word) & "
                "<uint32_t>OWNER_DIED_BIT)", "            or word != NULL)")),
    mutant("scan-not-validated", "a scan misses what moved under it",
           "model:scan_under_split scan_under_writes",
           Edit(SCAN, "    return count if bucket_is_unmoved(bucket) else -1",
                "    return count")),
    mutant("scan-copy-not-confirmed", "a scan gives words of the place's next entry",
           "model:scan_under_writes",
           Edit(SCAN, "    if not entry_is_intact(entry):\n        return STATUS_CONTENDED\n",
                "")),
]

WRITERS = [
    mutant("sequence-never-odd", "a change is not announced before it is made",
           "model:split",
           Edit(WORDS, "    store_then_fence_u64(bucket, load_relaxed_u64(bucket) + 1)",
                "    store_then_fence_u64(bucket, load_relaxed_u64(bucket) + 2)"),
           Edit(WORDS, "    store_release_u64(bucket, load_relaxed_u64(bucket) + 1)",
                "    store_release_u64(bucket, load_relaxed_u64(bucket))")),
    mutant("split-published-first", "a new bucket can be reached while it is empty",
           "model:split",
           Edit(WRITER, "        self._fill_chain(child, self._moving, moving_count, "
                "old_level + 1)\n", ""),
           Edit(WRITER, "        change_begin(parent)\n        self._fill_chain(parent",
                "        self._fill_chain(child, self._moving, moving_count, old_level + 1)\n"
                "        change_begin(parent)\n        self._fill_chain(parent")),
    mutant("split-without-sequence", "a bucket is rewritten under its readers",
           "model:split",
           Edit(WRITER, "        change_begin(parent)\n", ""),
           Edit(WRITER, "        change_end(parent)\n", "")),
    mutant("level-not-raised", "a bucket that was split still claims what has moved",
           "model:split",
           Edit(WRITER, "self._fill_chain(parent, self._staying, staying_count, old_level + 1)",
                "self._fill_chain(parent, self._staying, staying_count, old_level)")),
    mutant("published-before-written", "a slot names an entry that is not there yet",
           "model:overwrite",
           Edit(WRITER, "        self._fill_entry(place, entry_bytes)\n"
                "        if self._find_spot(&probe, &spot):",
                "        if self._find_spot(&probe, &spot):"),
           Edit(WRITER, "        self._key_value_bytes += entry_bytes\n"
                "        self._keep_house(released_bytes)",
                "        self._fill_entry(place, entry_bytes)\n"
                "        self._key_value_bytes += entry_bytes\n"
                "        self._keep_house(released_bytes)")),
    mutant("moved-before-copied", "a slot names the new place of an entry that is not there yet",
           "model:evacuation",
           Edit(WRITER, "        self._fill_entry(new_place, entry_bytes)\n"
                "        change_begin(spot.bucket)", "        change_begin(spot.bucket)"),
           Edit(WRITER, "        self.arena.release_moved(place)\n",
                "        self._fill_entry(new_place, entry_bytes)\n"
                "        self.arena.release_moved(place)\n")),
    mutant("moved-without-sequence", "a slot changes under its readers",
           "model:evacuation",
           Edit(WRITER, "        change_begin(spot.bucket)\n"
                "        store_relaxed_u32(slot_place(spot.line, spot.slot), new_place)\n"
                "        change_end(spot.bucket)\n",
                "        store_relaxed_u32(slot_place(spot.line, spot.slot), new_place)\n")),
    mutant("generation-not-new", "a place's next entry has its last one's generation",
           "model:overwrite",
           Edit(WRITER, "        self._generation += 1\n", "        self._generation = 1\n")),
    mutant("generation-not-zeroed", "an entry is overwritten while its generation stands",
           "model:overwrite overwrite_longer",
           Edit(WRITER, "        store_then_fence_u64(words, 0)\n", "")),
    mutant("page-generation-not-moved", "a page laid out anew passes for the old one",
           "model:page_class long_reuse",
           Edit(ARENA, "            store_then_fence_u64(generation, "
                "load_relaxed_u64(generation) + 1)\n",
                "            store_then_fence_u64(generation, load_relaxed_u64(generation))\n")),
    mutant("first-page-generation-not-moved", "where an entry of several pages began is forgotten",
           "model:long_reuse",
           Edit(ARENA, "        for index in range(page, page + page_count):\n"
                "            generation = self._view.page_generations + index",
                "        for index in range(page + (page_count > 1), page + page_count):\n"
                "            generation = self._view.page_generations + index")),
    mutant("removed-place-not-zeroed", "a new tag meets a forgotten place",
           "lenient:forgotten_place",
           Edit(WRITER, "        store_relaxed_u32(slot_place(spot.line, spot.slot), 0)\n"
                "        if spot.previous_line", "        if spot.previous_line")),
    mutant("multi-sequence-not-moved", "an entry of two keys is not announced",
           "model:multi_write",
           Edit(WRITER, "        if self._writes_many:\n            self._multi_sequence += 1\n",
                "        if self._writes_many:\n"),
           Edit(WRITER, "        if writes_many:\n            self._multi_sequence += 1\n",
                "        if writes_many:\n")),
    mutant("applied-before-written", "a position promises writes that are still to come",
           "model:positions",
           Edit(WRITER, "        store_then_fence_u64(&self._view.header.applying_index, index)\n",
                "        store_then_fence_u64(&self._view.header.applying_index, index)\n"
                "        store_release_u64(&self._view.header.applied_index, index)\n")),
    mutant("applied-stored-relaxed", "a position is seen before the writes it stands for",
           "lenient:positions",
           Edit(WRITER, "store_release_u64(&self._view.header.applied_index, self._index)",
                "store_relaxed_u64(&self._view.header.applied_index, self._index)")),
    mutant("applying-after-written", "a read shows an entry above its index",
           "model:positions overwrite",
           Edit(WRITER, "        store_then_fence_u64(&self._view.header.applying_index, index)\n",
                ""),
           Edit(WRITER,
                "        store_release_u64(&self._view.header.applied_index, self._index)\n",
                "        store_then_fence_u64(&self._view.header.applying_index, self._index)\n"
                "        store_release_u64(&self._view.header.applied_index, self._index)\n")),
    mutant("quarantined-place-freed", "a place is handed out while it still waits",
           ("pytest:test_arena.py", "races:--quarantine 64 --writes 30000"),
           Edit(ARENA, "        self._quarantine[last] = place\n",
                "        self._quarantine[last] = place\n        self._free(place)\n")),
    mutant("live-place-freed", "a place is handed out while a slot names it",
           ("pytest:test_map_writer.py", "races:--writes 30000"),
           Edit(WRITER, "            released_bytes = self._release(spot.place)\n",
                "            released_bytes = self._release(place)\n")),
    mutant("snapshot-saves-not-before-split", "a bucket's half is lost to a snapshot",
           ("pytest:test_map_snapshot.py",), Edit(WRITER, "        self._save(parent)\n", "")),
    mutant("snapshot-holds-nothing", "a place that a snapshot reads is handed out",
           ("pytest:test_map_snapshot.py",),
           Edit(WRITER, "            if self.arena.hold(place):\n                return 0\n"
                "            self._snapshot.give_way()\n", "            pass\n")),
]

MUTANTS = ORDERINGS + READERS + WRITERS
#: One of each kind of ordering, check and order of writes, quick to build: for every test run.
QUICK = ("acquire-fence-dropped", "miss-not-validated", "page-generation-not-moved")
