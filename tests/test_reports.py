"""What members report, and what is judged by it."""

from __future__ import annotations

from seafoam.calls import decode_report, encode_report
from seafoam.reports import Report, Reports


def test_a_report_is_read_as_it_was_written():
    for report in (Report(0, False), Report(2**64 - 1, True)):
        assert decode_report(encode_report(report)) == report


def test_who_has_not_reported_counts_as_well():
    reports = Reports(1, lambda: Report(500, True))
    assert reports.quota_bytes((1, 2, 3)) == 500
    assert reports.has_room(2) and not reports.said_room(2)
    assert reports.majority_has_room((1, 2, 3))


def test_the_latest_report_counts_and_only_of_those_asked_about():
    reports = Reports(1, lambda: Report(500, False))
    reports.take(2, Report(100, False))
    reports.take(2, Report(300, True))
    reports.take(9, Report(1, False))
    assert reports.quota_bytes((1, 2, 3)) == 300
    assert reports.said_room(2) and not reports.has_room(1) and not reports.has_room(9)
    assert reports.majority_has_room((1, 2, 3))
    reports.take(3, Report(500, False))
    assert not reports.majority_has_room((1, 2, 3))
    reports.forget()
    assert reports.quota_bytes((1, 2, 3)) == 500
