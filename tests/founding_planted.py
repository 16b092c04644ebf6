"""Bugs planted in the founding machine, each in one place; test_founding_simulation.py wants them
all caught, and says by what.
"""

from __future__ import annotations

from dataclasses import replace

from seafoam.founding import Founding
from seafoam.founding_wire import Held, Record, View


class PromisesWithoutDisk(Founding):
    """A promise is told before it is written, and never written."""

    def _persist(self, record: Record) -> None:
        held = record.held
        if held is not None and held.founder_id != self._id and not record.is_founded:
            self._record = record
            self._is_view_old = True
            self._ask_again.update(self._whom_to_ask())
        else:
            super()._persist(record)


class TellsBeforeWritten(Founding):
    """What is being written is told as if it were on disk."""

    def view(self):
        view = super().view()
        return view if self._pending is None else replace(
            view, held=self._pending.held, proposal_number=self._pending.proposal_number)


class DecidesBeforeAllPromised(Founding):
    """A majority is enough."""

    def _has_promised(self, node_id: int, held: Held) -> bool:
        ids = [member_id for member_id, _ in held.contents.members]
        count = sum(super(DecidesBeforeAllPromised, self)._has_promised(at, held) for at in ids)
        return 2 * count > len(ids)


class ReleasesWithoutWord(Founding):
    """A founder that does not answer is taken to have given up."""

    def _is_released(self, held: Held) -> bool:
        return super()._is_released(held) or held.founder_id not in self._known.present()


class ReleasesByOldWord(Founding):
    """Any view of the founder that does not show the proposal is its word, however old."""

    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named)
        known = self._known

        def keep(view: View) -> None:
            known.changed |= known.views.get(view.node_id) != view
            known.views[view.node_id] = view

        known._keep = keep

    def _is_released(self, held: Held) -> bool:
        founder = self._known.views.get(held.founder_id)
        return founder is not None and founder.held != held


class CountsAnewAfterStart(Founding):
    """The number of proposals is not kept where nothing is held."""

    def _persist(self, record: Record) -> None:
        super()._persist(record if record.held is not None else Record())


class PromisesTwice(Founding):
    """A smaller founder's proposal takes the place of a larger one's."""

    def _follow(self, held: Held) -> None:
        better = self._proposal_to_promise()
        if better is not None and better.founder_id < held.founder_id:
            self._persist(Record(self._record.proposal_number, better))
        else:
            super()._follow(held)


class ProposesWhatIsNotThere(Founding):
    """An incomplete view is good enough to found by."""

    def _is_time_to_propose(self) -> bool:
        missing, self._picture = self._picture, replace(self._picture, missing=())
        try:
            return super()._is_time_to_propose()
        finally:
            self._picture = missing


class NeverAborts(Founding):
    """Once proposed, it waits for ever."""

    def _must_abort(self, members: dict[int, str]) -> bool:
        return False


class FoundsBeforeWritten(Founding):
    """The cluster begins when it is decided, and the disk comes later."""

    def _persist(self, record: Record) -> None:
        if record.is_founded:
            self._record, kept = record, self._record
            self._enter()
            self._record = kept
        super()._persist(record)


class AnybodyFounds(Founding):
    """The founder is the smallest id of all, whether named or not."""

    def _is_time_to_propose(self) -> bool:
        ids = frozenset(node_id for node_id, _ in self._picture.members)
        before, self._picture = self._picture, replace(self._picture, named_ids=ids)
        try:
            return super()._is_time_to_propose()
        finally:
            self._picture = before
