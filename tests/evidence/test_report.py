import pytest

from cutmix.evidence.measures import Measures
from cutmix.evidence.report import Report, Result, scope_of


def result(train, test, nll, ece, hole, seconds):
    return Result(Measures(train, test, nll, ece, hole), seconds)


@pytest.fixture
def report():
    baseline = [result(1.0, 0.444, 2.6, 0.34, 0.338, 20.0), result(0.99, 0.431, 2.5, 0.37, 0.365, 21.0)]
    cutmix = [result(0.8, 0.467, 1.6, 0.12, 0.395, 22.0), result(0.81, 0.468, 1.7, 0.12, 0.445, 23.0)]
    return Report("resnet8", [0, 1], {"baseline": baseline, "cutmix": cutmix}, "Emoji by OpenMoji")


def test_the_table_holds_each_arms_mean_and_the_paired_differences(report):
    assert report.table.splitlines() == [
        "| 2 seeds                     | train % | test % |   NLL |    ECE | hole % | seconds |",
        "| --------------------------- | ------: | -----: | ----: | -----: | -----: | ------: |",
        "| baseline                    |    99.5 |   43.8 |  2.55 |  0.355 |   35.2 |      20 |",
        "| cutmix                      |    80.5 |   46.8 |  1.65 |  0.120 |   42.0 |      22 |",
        "| cutmix - baseline           |   -19.0 |   +3.0 | -0.90 | -0.235 |   +6.9 |      +2 |",
        "| cutmix - baseline, smallest |   -20.0 |   +2.3 | -1.00 | -0.250 |   +5.7 |      +2 |",
        "| cutmix - baseline, largest  |   -18.0 |   +3.7 | -0.80 | -0.220 |   +8.0 |      +2 |",
    ]


def test_with_one_seed_there_is_no_smallest_and_no_largest(report):
    single = Report("resnet8", [0], {arm: results[:1] for arm, results in report.results.items()})

    assert [line.split("|")[1].strip() for line in single.table.splitlines()[2:]] == [
        "baseline",
        "cutmix",
        "cutmix - baseline",
    ]


def test_the_page_says_what_was_seen_and_whose_pictures_they_are(report):
    page = report.markdown()

    assert "Gain: cutmix against baseline in test accuracy, +3.0 points (+2.3 to +3.7)" in page
    assert "baseline gets 99.5 % of its own training images right: it has memorised them" in page
    assert page.endswith("\n\nEmoji by OpenMoji\n")


def test_programs_find_every_figure(report):
    values = report.as_json()

    assert values["results"]["cutmix"][1]["hole_accuracy"] == 0.445
    assert values["differences"]["cutmix"]["test_accuracy"] == pytest.approx([0.023, 0.037])
    assert values["verdicts"] == {"cutmix": "gain"}


def test_the_scope_is_read_from_what_the_run_was_made_from():
    task = {"model": "resnet8", "batch_size": 32, "augment": False, "flip": True}
    data = {"height": 32, "width": 48, "train_images": 5000}

    assert scope_of({"settings": {"task": task}, "data": data, "steps": 700}) == (
        "resnet8 from scratch, 32x48, 700 steps of 32, 5,000 training images, no crop or flip"
    )


def test_without_an_arm_that_mixes_by_cutmix_nothing_is_said_of_where_it_pays(report):
    baseline, cutmix = report.results.values()

    sentences = Report("resnet8", [0, 1], {"baseline": baseline, "mixup:alpha=0.4": cutmix}).sentences

    assert [said.partition(":")[0] for said in sentences] == ["Gain"]
