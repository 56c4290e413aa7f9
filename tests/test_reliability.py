"""What ``make reliability`` tries, a tenth as often."""

import pytest

from reliability.checking import tried
from reliability.rows import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_run_survives(check):
    row = tried(check, check.tenth, seed=0)

    assert not row.failures, "\n".join(row.failures)
    assert row.passed == check.tenth


def test_a_check_that_does_not_hold_is_a_failing_row():
    def hold(attempt):
        assert attempt.number != 1

    row = tried(CHECKS[0].__class__("name", 3, "must", hold), 3, seed=0)

    assert (row.count, row.passed, len(row.failures)) == (3, 2, 1)
