import pytest

from cutmix.evidence.verdict import memory_sentence, paired, sentence


@pytest.mark.parametrize(
    ("arm", "reference", "verdict"),
    [
        ([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], "gain"),
        ([0.4, 0.5, 0.6], [0.5, 0.6, 0.7], "loss"),
        ([0.9, 0.9, 0.5], [0.4, 0.5, 0.6], "not shown"),
        ([0.9, 0.5], [0.4, 0.5], "not shown"),
        ([0.9], [0.4], "not shown"),
        ([float("nan"), 0.9], [0.4, 0.5], "not shown"),
    ],
)
def test_a_gain_or_a_loss_has_the_same_sign_for_every_one_of_several_seeds(arm, reference, verdict):
    assert paired(arm, reference).verdict == verdict


def test_differences_are_taken_seed_by_seed():
    pair = paired([0.50, 0.75], [0.25, 0.25])

    assert (pair.differences, pair.span) == ((0.25, 0.5), (0.375, 0.25, 0.5))


def test_arms_of_different_length_have_no_pairs():
    with pytest.raises(ValueError, match="argument 2"):
        paired([0.5, 0.6], [0.5])


def test_a_sentence_names_the_verdict_the_points_the_luck_and_the_scope():
    said = sentence(
        "cutmix", "baseline", paired([0.467, 0.466], [0.444, 0.431]), "resnet8 from scratch, 32x32, 700 steps"
    )

    assert said == (
        "Gain: cutmix against baseline in test accuracy, +2.9 points (+2.3 to +3.5); the sign is the same for all 2 "
        "seeds (by luck alone in 1 of 2 comparisons). Seen with resnet8 from scratch, 32x32, 700 steps, not beyond."
    )


def test_a_single_seed_is_not_shown_with_the_reason():
    said = sentence("cutmix", "baseline", paired([0.9], [0.5]), "resnet8")

    assert said.startswith("Not shown: cutmix against baseline in test accuracy, +40.0 points; one seed shows nothing")


@pytest.mark.parametrize(("train_accuracy", "side"), [(0.981, "it has memorised"), (0.76, "it has not memorised")])
def test_the_clean_train_accuracy_says_which_side_of_the_rule_one_is_on(train_accuracy, side):
    assert side in memory_sentence("baseline", train_accuracy)


def test_no_difference_at_all_is_said_to_be_none():
    said = sentence("mixup", "baseline", paired([0.5, 0.6], [0.5, 0.6]), "resnet8")

    assert said.startswith(
        "Not shown: mixup against baseline in test accuracy, +0.0 points (+0.0 to +0.0); there is no"
    )
