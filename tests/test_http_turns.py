"""Turns of the loop: how much of large answers goes into one, and who is next."""

from __future__ import annotations

from collections.abc import Callable

from seafoam.http_turns import TURN_BYTES, Turns
from support import Bench, post

MIB = 1 << 20


class Loop:
    """Turns of a loop by hand."""

    def __init__(self) -> None:
        self.turns = Turns(self._call_soon)
        self._soon: list[Callable[[], None]] = []
        self.order: list[str] = []

    def _call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def turn(self) -> list[str]:
        """Run the next; who was served in it."""
        self.order = []
        due, self._soon = self._soon, []
        for callback in due:
            callback()
        return self.order


class Waiter:
    """Answers `answer_bytes` when it may."""

    def __init__(self, loop: Loop, name: str, answer_bytes: int) -> None:
        self.loop, self.name, self.answer_bytes = loop, name, answer_bytes

    def take_turn(self) -> None:
        if self.loop.turns.is_spent:
            self.loop.turns.wait(self)
        else:
            self.loop.order.append(self.name)
            self.loop.turns.spend(self.answer_bytes)


def test_a_turn_is_spent_by_its_bytes_and_the_next_begins_anew():
    loop = Loop()
    loop.turns.spend(TURN_BYTES - 1)
    assert not loop.turns.is_spent
    loop.turns.spend(1)
    assert loop.turns.is_spent
    loop.turn()
    assert not loop.turns.is_spent


def test_who_waits_is_served_in_order_some_a_turn():
    loop = Loop()
    for name, answer_bytes in (("a", 64 * MIB), ("b", 64 * MIB), ("c", MIB), ("d", MIB),
                               ("e", 64 * MIB), ("f", 1)):
        Waiter(loop, name, answer_bytes).take_turn()
    assert loop.order == ["a"]
    assert [loop.turn() for _ in range(4)] == [["b"], ["c", "d", "e"], ["f"], []]


def test_who_waits_twice_is_served_once():
    loop = Loop()
    loop.turns.spend(TURN_BYTES)
    waiter = Waiter(loop, "a", 1)
    loop.turns.wait(waiter)
    loop.turns.wait(waiter)
    assert loop.turn() == ["a"]
    assert loop.turn() == []


def test_the_loop_turns_between_large_answers():
    """Ten connections ask for 16 MiB each at once: never two are answered in one turn."""
    with Bench() as bench:
        keys = [f"k{at}" for at in range(16)]
        clients = [bench.client() for _ in range(10)]
        for key in keys:
            assert clients[0].call("set", {"key": key, "value": "x" * (MIB - 2)}).status == 200
        turn, answered = [0], []
        spend, loop = bench.http.turns.spend, bench.loop

        def count_turns() -> None:
            turn[0] += 1
            if len(answered) < len(clients):
                loop.call_soon(count_turns)

        def note(answer_bytes: int) -> None:
            answered.append(turn[0])
            spend(answer_bytes)

        # The loop reads all requests in one turn: they stand in the sockets before it goes on.
        def send_all() -> None:
            bench.http.turns.spend = note
            for client in clients[::2]:
                client.send(post("get", {"keys": keys}))
            for client in clients[1::2]:
                client.send(post("batch", {"ops": [{"op": "get", "key": key} for key in keys]}))
            count_turns()

        bench.call(send_all)
        for client in clients:
            answer = client.receive()
            assert answer.status == 200 and len(answer.body) > 16 * MIB
            client.socket.close()
        assert len(answered) == len(clients) == len(set(answered))
        del bench.http.turns.spend


def test_a_connection_that_ends_while_it_waits_is_not_waited_for():
    with Bench() as bench, bench.client() as other:
        other.call("set", {"key": "a", "value": "x" * (MIB - 2)})
        gone = [bench.client() for _ in range(3)]

        def leave() -> None:
            bench.http.turns.spend(TURN_BYTES)
            for client in gone:
                client.send(post("get", {"keys": ["a"] * 16}))
                client.socket.close()

        bench.call(leave)
        bench.when(lambda: bench.http.stats()["connections"] == 1)
        assert other.call("get", {"key": "a"}).status == 200
