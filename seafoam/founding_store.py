"""FOUNDING: what a node is bound to while its cluster is founded, one small file.

    FOUNDING      a record as founding_wire.py draws it; not there before the first is kept
    FOUNDING.new  the next one while it is written; means nothing

Owns both names in the data directory. Must never return from `save` before the record would be
found after a power cut, nor leave a moment in which neither the old nor the new one would be, and
never believe a file that is damaged, of a later version or another node's. Blocks; used only by
the process that holds the directory's lock.
"""

from __future__ import annotations

import os
from pathlib import Path

from seafoam.data_directory import refuse_other_than_file, sync_data
from seafoam.errors import DataDamaged, DiskFailed, StartError, ensure
from seafoam.founding_wire import Record, decode_record, encode_record

__all__ = ["FOUNDING", "FoundingStore"]

FOUNDING, FOUNDING_NEW = "FOUNDING", "FOUNDING.new"


class FoundingStore:
    """The founding record of the node whose data directory this is."""

    def __init__(self, directory: Path, node_id: int) -> None:
        self.path = directory / FOUNDING
        self._directory = directory
        self._node_id = node_id
        self._has_failed = False

    def load(self) -> Record:
        """What was kept last, durable; StartError or DataDamaged where it cannot be used."""
        try:
            refuse_other_than_file(self.path)
            data = self._read()
        except FileNotFoundError:
            return Record()
        except OSError as error:
            raise StartError(f"{self.path} cannot be read: {error.strerror}") from None
        try:
            return decode_record(data, self._node_id)
        except DataDamaged as error:
            raise DataDamaged(f"{self.path} {error}") from None
        except StartError as error:
            raise StartError(f"{self.path} {error}") from None

    def save(self, record: Record) -> None:
        """Keep a record in the place of the last, durably.

        DiskFailed where that is not certain: nothing may be said or done then, for which of the
        two will be found is not known.
        """
        ensure(not self._has_failed, "a founding record is not written again after a failure")
        new = self._directory / FOUNDING_NEW
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                data = encode_record(self._node_id, record)
                written_bytes = os.write(fd, data)
                if written_bytes != len(data):
                    raise DiskFailed(f"{new} took {written_bytes} of {len(data)} bytes")
                sync_data(fd)
            finally:
                os.close(fd)
            new.rename(self.path)
            self._sync_directory()
        except OSError as error:
            self._has_failed = True
            raise DiskFailed(f"{self.path} cannot be written: {error.strerror}") from None
        except BaseException:
            self._has_failed = True
            raise

    def _read(self) -> bytes:
        """The file's bytes, from the disk: what a killed process left unsynced is synced first."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            sync_data(fd)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            with open(fd, "rb", closefd=False) as file:
                data = file.read()
        finally:
            os.close(fd)
        self._sync_directory()
        return data

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
