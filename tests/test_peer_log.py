"""What is said of callers: each new thing once, and only so much in a time."""

from __future__ import annotations

import logging

import pytest

from seafoam.peer_log import LINES_MAX, SAID_MAX, PeerLog


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="seafoam")
    return caplog


def say(log, now, who="a:1", sentence="has called", host="h"):
    log.say(now, host, who, logging.INFO, sentence)


def test_what_is_said_again_of_one_is_left_out(said):
    log = PeerLog()
    for sentence in ("has called", "has called", "is gone", "is gone", "has called"):
        say(log, 0, sentence=sentence)
    say(log, 0, who="b:1")
    assert said.messages == ["peer a:1 has called", "peer a:1 is gone", "peer a:1 has called",
                             "peer b:1 has called"]


def test_faults_that_alternate_have_a_line_a_second_and_the_rest_is_counted(said):
    log = PeerLog()
    for number in range(1000):
        say(log, 5, sentence=f"fault {number % 2}")
    assert len(said.messages) == LINES_MAX
    say(log, 6, sentence="fault 7")
    say(log, 6, sentence="fault 8")
    assert said.messages[LINES_MAX:] == [
        f"peer a:1 fault 7 ({(1000 - LINES_MAX) // 2} lines about h were left out)"]
    say(log, 7, sentence="fault 9")
    assert said.messages[-1].endswith("fault 9 (1 lines about h were left out)")


def test_who_gives_itself_ever_new_names_has_no_more_lines(said):
    log = PeerLog()
    for number in range(1000):
        say(log, 0, who=f"name:{number}")
    assert len(said.messages) == LINES_MAX
    say(log, 0, who="other:1", host="elsewhere")
    assert said.messages[-1] == "peer other:1 has called", "another host's are its own"


def test_what_was_left_out_may_be_said_later(said):
    log = PeerLog()
    for number in range(LINES_MAX):
        say(log, 0, sentence=str(number))
    say(log, 0, sentence="important")
    say(log, 1, sentence="important")
    assert "peer a:1 important (1" in said.messages[-1]


def test_what_is_remembered_is_bounded_and_many_hosts_share_what_is_left(said):
    log = PeerLog()
    for number in range(1000):
        say(log, 0, host=f"h{number}", who=f"a:{number}")
    assert len(log._said) <= SAID_MAX and len(log._lines) <= SAID_MAX + 1
    assert len(said.messages) == SAID_MAX + LINES_MAX
    say(log, 3600, host="late", who="late:1")
    assert said.messages[-1] == "peer late:1 has called"
