"""Bugs that the crash points must find: each is planted in the recorded program alone."""

from __future__ import annotations

import os
from collections.abc import Callable

from seafoam import data_directory, founding_store
from seafoam.data_directory import DataDirectory
from seafoam.disk import FileDisk
from seafoam.founding_store import FoundingStore

__all__ = ["PLANTS"]


def _nothing(*_: object) -> None:
    pass


def _replace(owner: object, name: str, function: Callable[..., object]) -> None:
    """Put another function in the place of one that is there: a plant in vain finds nothing."""
    getattr(owner, name)
    setattr(owner, name, function)


def directories_are_not_synced() -> None:
    _replace(data_directory, "sync_directory", _nothing)


def durable_is_said_before_the_sync() -> None:
    append = FileDisk.append

    def hasty(self, entries, hard_state, on_durable) -> None:
        append(self, entries, hard_state, _nothing)
        self._loop.call_soon(on_durable)

    FileDisk.append = hasty


def headers_are_not_synced() -> None:
    def careless(fd: int, data: bytes, offset: int) -> None:
        os.pwrite(fd, data, offset)

    _replace(data_directory, "write_durably", careless)


def torn_tails_are_not_blanked() -> None:
    _replace(DataDirectory, "blank", _nothing)


def meta_is_renamed_unsynced() -> None:
    def careless(self: DataDirectory, meta: bytes) -> None:
        new = self.path / "META.new"
        new.write_bytes(meta)
        new.rename(self.path / "META")
        data_directory.sync_directory(self.path)

    _replace(DataDirectory, "write_meta", careless)


def meta_is_written_in_place() -> None:
    def careless(self: DataDirectory, meta: bytes) -> None:
        with (self.path / "META").open("wb", buffering=0) as file:
            file.write(meta)
            os.fsync(file.fileno())
        data_directory.sync_directory(self.path)

    _replace(DataDirectory, "write_meta", careless)


def what_is_read_is_not_synced() -> None:
    _only_for(data_directory, DataDirectory, "read_segments")


def founding_records_are_not_synced() -> None:
    _replace(founding_store, "sync_data", _nothing)


def the_founding_record_s_name_is_not_synced() -> None:
    _replace(FoundingStore, "_sync_directory", _nothing)


def segments_get_their_length_late() -> None:
    _replace(data_directory, "reserve", _nothing)


def _only_for(module, owner, name: str) -> None:
    """No sync of data within one method."""
    method = getattr(owner, name)
    sync = module.sync_data

    def careless(*arguments):
        module.sync_data = _nothing
        try:
            return list(method(*arguments))
        finally:
            module.sync_data = sync

    setattr(owner, name, careless)


PLANTS: dict[str, Callable[[], None]] = {
    plant.__name__: plant for plant in (
        directories_are_not_synced, durable_is_said_before_the_sync, headers_are_not_synced,
        torn_tails_are_not_blanked, meta_is_renamed_unsynced, meta_is_written_in_place,
        what_is_read_is_not_synced, founding_records_are_not_synced,
        the_founding_record_s_name_is_not_synced, segments_get_their_length_late,
    )
}
