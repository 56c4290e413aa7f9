"""On several ranks, sharded or not: what is averaged, cut to length, evaluated and saved between two steps."""

from pathlib import Path

import pytest

from launched import run


@pytest.fixture(scope="module")
def ranks():
    return run(Path(__file__).with_name("evaluating_ranks.py"), 2)


def test_sharded_weights_are_averaged_lent_and_given_back_as_whole_ones_are(ranks):
    first, second = ranks

    assert first == second
    assert first["sharded"] == first["whole"]
    assert first["sharded, not lent"]["weights"] == first["whole"]["weights"]
    assert first["sharded, not lent"]["figures"] != first["whole"]["figures"]


def test_sharded_gradients_are_scaled_and_cut_by_the_length_of_the_whole(ranks):
    whole, sharded = ranks[0]["whole, cut"], ranks[0]["sharded, cut"]

    assert sharded["norm"] == pytest.approx(whole["norm"], rel=1e-3)
    assert sharded["figures"] == pytest.approx(whole["figures"], rel=1e-3)


def test_gradients_of_a_sharded_model_and_of_its_loss_are_cut_together(ranks):
    whole, sharded = ranks[0]["whole, loss learns"], ranks[0]["sharded, loss learns"]

    assert sharded["norm"] == pytest.approx(whole["norm"], rel=1e-6)
    assert sharded["values"] == [pytest.approx(values, rel=1e-6) for values in whole["values"]]
    assert sharded["values"][1] != [1.0, 1.0, 1.0]


def test_a_run_is_saved_whole_right_after_an_evaluation(ranks):
    assert {name.partition(".")[0] for name in ranks[0]["sharded"]["saved"]} == {"1", "2", "4"}
