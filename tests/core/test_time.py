"""Durations are read as people write them, and a timestamp counts whole things."""

import pytest

from cutmix.core.time import Time, Timestamp


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("3ep", Time(3, "ep")),
        ("500ba", Time(500, "ba")),
        (" 50000 sp ", Time(50_000, "sp")),
        (7, Time(7, "ep")),
        (Time(2, "ba"), Time(2, "ba")),
    ],
)
def test_a_duration_is_read_as_it_is_written(written, meant):
    assert Time.parse(written) == meant


@pytest.mark.parametrize("written", ["3", "ep", "0ep", "-1ba", "1.5ep", "3epochs", "", 0, -2, 1.5, True, None, "10min"])
def test_what_is_no_duration_is_refused_with_the_remedy(written):
    with pytest.raises(ValueError, match=r"eval_interval must be .*, got .*; write '3ep', '500ba'") as caught:
        Time.parse(written, "eval_interval")

    assert repr(written) in str(caught.value)


def test_a_timestamp_counts_batches_and_samples_within_the_epoch_and_over_all():
    now = Timestamp().next_batch(4).next_batch(3).next_epoch().next_batch(4)

    assert now == Timestamp(epoch=1, batch=3, sample=11, batch_in_epoch=1, sample_in_epoch=4)
    assert (now.get("ep"), now.get("ba"), now.get("sp")) == (1, 3, 11)


def test_a_stretch_ends_as_much_later_as_it_is_long():
    start = Timestamp(epoch=2, batch=25)

    assert Time(10, "ba").after(start) == Time(35, "ba")
    assert not start.reached(Time(26, "ba"))
    assert start.reached(Time(2, "ep"))


def test_an_interval_comes_round_when_a_multiple_is_passed():
    before, now = Timestamp(sample=90), Timestamp(sample=110)

    assert Time(100, "sp").divides(before, now)
    assert not Time(120, "sp").divides(before, now)
    assert not Time(100, "sp").divides(now, now)
