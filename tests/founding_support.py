"""One founding machine at a desk: views made by hand, actions read one by one."""

from __future__ import annotations

from seafoam._core.wire import encode_founding
from seafoam.founding import Ask, Facts, Founding, Join, Persist, Refuse, WaitFor
from seafoam.founding_wire import Held, Named, Record, View

ME = 5
SEED = bytes(16)


def place(node_id: int) -> str:
    return f"n{node_id}:1"


def held(founder_id: int, *others: int, number: int = 1, cluster_id: int = 0xC0) -> Held:
    members = [(at, place(at)) for at in sorted({founder_id, *others})]
    return Held(founder_id, number, encode_founding(cluster_id + founder_id, SEED, members))


def view(node_id: int, *names: int, **fields) -> View:
    """A node that names others, all of whom answered it; `fields` replace what is not said."""
    told = {
        "node_id": node_id, "start_id": node_id * 100, "sequence": 1, "cluster_id": 0,
        "address": place(node_id),
        "named": tuple(Named(place(at), at, place(at)) for at in names),
    }
    bound = fields.get("held")
    if bound is not None and bound.founder_id == node_id:
        told["proposal_number"] = bound.number
    return View(**{**told, **fields})


class Desk:
    """A machine whose PEERs are `n1:1` and so on; what it asked, and everything else it said."""

    def __init__(self, *names: int, record: Record | None = None, **facts) -> None:
        told = {"node_id": ME, "start_id": 500, "address": place(ME), "directory": "/data/5",
                "peers": tuple(place(at) for at in names)}
        self.drawn = 0
        self.now_ms = 0
        self.sequence = 0
        self.asked: list[str] = []
        self.said: list = []
        self._waits = ""
        self.machine = Founding(Facts(**{**told, **facts}), record or Record(), self._draw)
        self.take(self.machine.start(0))

    def _draw(self) -> tuple[int, bytes]:
        self.drawn += 1
        return 0xD0 + self.drawn, SEED

    def take(self, actions: list) -> None:
        for action in actions:
            if isinstance(action, Ask):
                assert action.address not in self.asked, "asked again before it answered"
                self.asked.append(action.address)
            else:
                self.said.append(action)
                if isinstance(action, WaitFor):
                    self._waits = action.sentence

    def wait(self, ms: int) -> None:
        for _ in range(0, ms, 50):
            self.now_ms += 50
            self.take(self.machine.tick(self.now_ms))

    def ask(self, address: str) -> None:
        """See to it that an address is being asked."""
        for _ in range(100):
            if address in self.asked:
                return
            self.wait(50)
        raise AssertionError(f"{address} is never asked")

    def answer(self, *views: View, at: str = "") -> None:
        """Each of these nodes answers, at its address or another."""
        for told in views:
            address = at or told.address
            self.ask(address)
            self.asked.remove(address)
            self.sequence += 1
            self.take(self.machine.on_contact(address, _numbered(told, self.sequence)))

    def answer_as_self(self, address: str) -> None:
        self.answer(self.machine.view(), at=address)

    def fail(self, address: str, reason: str = "connection refused") -> None:
        self.ask(address)
        self.asked.remove(address)
        self.take(self.machine.on_unreachable(address, reason))

    def call(self, told: View) -> None:
        self.sequence += 1
        self.take(self.machine.on_called(_numbered(told, self.sequence)))

    def called_by(self, told: View) -> None:
        """It calls, and answers when it is asked back."""
        self.call(told)
        self.answer(told)

    def persisted(self) -> Record:
        """The record that is to be written, and now is."""
        record = self.only(Persist).record
        self.take(self.machine.on_persisted())
        return record

    def only(self, kind: type):
        """The one action of this kind since the last look; all others are forgotten."""
        found = [action for action in self.said if isinstance(action, kind)]
        assert len(found) == 1, self.said
        self.said.clear()
        return found[0]

    def none(self, *kinds: type) -> None:
        """Nothing of these kinds was said; by default, nothing that matters."""
        kinds = kinds or (Persist, Join, Refuse)
        assert [action for action in self.said if isinstance(action, kinds)] == []

    @property
    def waits(self) -> str:
        """What it says it waits for; what it tells when asked is what it said last."""
        assert self.machine.waiting_for in ("", self._waits)
        return self.machine.waiting_for

    @property
    def others_asked(self) -> list[str]:
        """Whom it asks beside its own address, of which it cannot know that it is its own."""
        return [address for address in self.asked if address != place(ME)]

    def propose(self) -> Held:
        """It proposes, after the view stood still; what it proposes."""
        self.wait(2100)
        proposal = self.persisted().held
        assert proposal is not None and proposal.founder_id == ME
        return proposal


def _numbered(told: View, sequence: int) -> View:
    return View(**{**told.__dict__, "sequence": sequence}) if told.sequence == 1 else told


def members(proposal: Held) -> dict[int, str]:
    return dict(proposal.contents.members)
