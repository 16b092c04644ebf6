"""What is said in the log of those who call: enough to see what is wrong, however often it is.

Owns what was said of whom last, and how many lines each host may still have. Must never let what
others send decide how long the log becomes: a sentence that repeats the one before is left out,
and so is what goes beyond a host's lines, which are counted in the next one.
"""

from __future__ import annotations

import logging

__all__ = ["PeerLog"]

#: Whom is remembered what was said of last, and hosts whose lines are counted.
SAID_MAX = 64
#: Lines about one host at once: what a host with many nodes brings at a start. After that there
#: is one a second.
LINES_MAX = 32
LINES_PER_SECOND = 1.0
#: Hosts beyond SAID_MAX share the lines of this one.
OTHERS = ""

log = logging.getLogger("seafoam")


class _Lines:
    """Of one host: the lines it has left at a moment, and those left out."""

    __slots__ = ("at_seconds", "left", "left_out_count")

    def __init__(self, at_seconds: float) -> None:
        self.at_seconds = at_seconds
        self.left = float(LINES_MAX)
        self.left_out_count = 0


class PeerLog:
    """The log of one node's callers."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._lines: dict[str, _Lines] = {}

    def say(self, now_seconds: float, host: str, who: str, level: int, sentence: str) -> None:
        """Log a sentence about `who`, who calls from `host`, unless it was the last about it."""
        if self._said.get(who) == sentence:
            self._said[who] = self._said.pop(who)
            return
        lines = self._lines_of(host, now_seconds)
        if lines.left < 1:
            lines.left_out_count += 1
            return
        lines.left -= 1
        more = f" ({lines.left_out_count} lines about {host or 'others'} were left out)" \
            if lines.left_out_count else ""
        lines.left_out_count = 0
        log.log(level, "peer %s %s%s", who, sentence, more)
        self._said.pop(who, None)
        self._said[who] = sentence
        if len(self._said) > SAID_MAX:
            del self._said[next(iter(self._said))]

    def _lines_of(self, host: str, now_seconds: float) -> _Lines:
        if host not in self._lines and len(self._lines) >= SAID_MAX:
            # Who has all its lines again is as good as forgotten.
            for known, lines in list(self._lines.items()):
                self._refill(lines, now_seconds)
                if lines.left >= LINES_MAX and not lines.left_out_count:
                    del self._lines[known]
        if host not in self._lines and len(self._lines) >= SAID_MAX:
            host = OTHERS
        lines = self._lines.setdefault(host, _Lines(now_seconds))
        self._refill(lines, now_seconds)
        return lines

    @staticmethod
    def _refill(lines: _Lines, now_seconds: float) -> None:
        gained = (now_seconds - lines.at_seconds) * LINES_PER_SECOND
        lines.left = min(float(LINES_MAX), lines.left + gained)
        lines.at_seconds = now_seconds
