"""What the benchmarks reckon with; nothing here is timed against a limit."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def timing(monkeypatch):
    return imported("timing", monkeypatch)


@pytest.fixture
def peers(monkeypatch):
    return imported("peers", monkeypatch)


@pytest.fixture
def op_speed(monkeypatch):
    return imported("op_speed", monkeypatch)


def imported(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    __import__(name)
    return sys.modules[name]


def pasting_neighbours(images, _ids, _num_classes):
    """A library in which each sample gets the left half of the one before it."""

    def call():
        images[..., :16] = images.roll(1, 0)[..., :16]
        return images

    return call


def blending_neighbours(images, _ids, _num_classes):
    return lambda: 0.5 * images + 0.5 * images.roll(1, 0)


def test_a_ratio_is_taken_against_the_median_of_the_unit(timing):
    unit, arm = timing.Times(1, [1.0, 2.0, 30.0]), timing.Times(1, [2.0, 4.0, 6.0])

    assert timing.ratios(arm, unit)["median"] == 2.0


def test_costs_for_as_much_replaced_are_divided_by_what_was_replaced(timing):
    half, whole = timing.Times(1, [1.0, 1.0], [0.5, 0.5]), timing.Times(1, [1.0, 1.0], [1.0, 1.0])

    assert timing.ratios(half, whole, per_replaced=True)["median"] == 2.0
    assert timing.ratios(half, whole)["median"] == 1.0


def test_a_must_holds_up_to_its_limit_and_not_beyond(timing):
    times = {"copy": timing.Times(1, [1.0, 1.0]), "ours": timing.Times(1, [0.5, 0.5])}
    musts = (timing.Must("ours", "copy", 0.5), timing.Must("ours", "copy", 0.49))

    assert [row["holds"] for row in timing.judged("work", times, musts)] == [True, False]


def test_a_must_against_a_peer_that_is_not_there_is_left_out(timing):
    times = {"ours": timing.Times(1, [0.5, 0.5])}

    assert timing.judged("work", times, (timing.Must("ours", "keras", 0.25),)) == []


def test_slow_arms_see_the_first_of_the_seeds_that_quick_ones_see(timing, monkeypatch):
    seen = {"quick": [], "slow": []}
    monkeypatch.setattr(timing, "_draws_of", lambda arm, _pace: 2 if arm is arms["slow"] else 5)
    arms = {name: lambda name=name: seen[name].append(torch.initial_seed()) for name in seen}

    times = timing.measure(arms, timing.Pace(trials=2))

    assert seen["slow"][:2] == seen["quick"][:2]
    assert seen["slow"][2:] == seen["quick"][5:7]
    assert len(set(seen["quick"])) == 10
    assert len(times["slow"].seconds) == 2


def test_what_was_replaced_is_read_from_the_result(timing):
    class Mixed:
        area = torch.tensor([0.25, 0.75])

    times = timing.measure({"ours": Mixed}, timing.QUICK)

    assert times["ours"].replaced == [0.5] * timing.QUICK.trials


def test_a_peer_that_cannot_be_imported_is_named_with_the_reason_and_the_rest_is_used(peers, monkeypatch):
    def absent(_images, _ids, _num_classes):
        raise ModuleNotFoundError("No module named 'absent'")

    there = replace(peers.PEERS["timm"], package="torch", make=pasting_neighbours)
    monkeypatch.setattr(peers, "PEERS", {"absent": replace(there, make=absent), "there": there})

    usable, described = peers.load()

    assert [*usable] == ["there"]
    assert described["absent"]["left_out"] == "ModuleNotFoundError: No module named 'absent'"
    assert described["there"]["replaced_share"] == 0.5


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda images, _ids, _num_classes: lambda: images, "mixed nothing"),
        (blending_neighbours, "more than their own pixels"),
    ],
)
def test_a_peer_that_does_not_paste_is_refused(peers, make, complaint):
    with pytest.raises(ValueError, match=complaint):
        peers.replaced_share(make)


def test_all_our_ways_to_mix_give_the_authors_pixels_on_every_work(op_speed):
    works = (op_speed.LARGE, op_speed.SMALL, op_speed.BYTES, *op_speed.OTHERS)

    for work in works:
        small = replace(work, shape=(6, *work.shape[1:2], *range(7, 7 + len(work.axes))))
        assert op_speed.ours(small, *small.batch())


def test_wrong_pixels_are_noticed_before_anything_is_timed(op_speed, monkeypatch):
    right = op_speed.cutmix_batch

    def wrong(images, *arguments, **settings):
        result = right(images, *arguments, **settings)
        return result._replace(mixed=result.mixed.flip(0))

    monkeypatch.setattr(op_speed, "cutmix_batch", wrong)

    with pytest.raises(AssertionError, match="wrong pixels"):
        op_speed.check_pixels(torch.randn(6, 3, 7, 8))


@pytest.fixture
def update(monkeypatch, tmp_path):
    import update

    monkeypatch.setattr(update, "RESULTS", tmp_path)
    return update


def written(folder, name, **result):
    machine = {"processor": "a processor", "cores": 2}
    whole = {"what": "copies", "machine": machine, "versions": {"torch": "2.13"}, **result}
    (folder / f"{name}.json").write_text(json.dumps(whole))


def test_the_table_of_peers_has_a_gap_where_one_was_not_run_and_says_why_one_is_left_out(update, tmp_path):
    works = [
        {"work": "large", "in_copies": {"copy": {"median": 1.0}, "ours": {"median": 0.3}, "keras": {"median": 15.0}}},
        {"work": "bytes", "in_copies": {"copy": {"median": 1.0}, "ours": {"median": 0.5}}},
    ]
    peers = {"keras": {"package": "keras", "version": "3"}, "kornia": {"package": "kornia", "left_out": "no wheel"}}
    written(tmp_path, "op_speed", works=works, peers=peers)

    table = update.speed_table()

    assert "| ours | 0.30 | 0.50 |\n| keras | 15 |  |\n" in table
    assert "keras 3; kornia is left out (no wheel)" in table
    assert "| copy |" not in table


def test_a_must_that_does_not_hold_is_called_missed(update, tmp_path):
    must = {"work": "large", "arm": "ours", "over": "copy", "quartile_low": 0.4, "quartile_high": 0.6}
    held = {**must, "median": 0.4, "must": 0.45, "holds": True}
    missed = {**must, "median": 0.5, "must": 0.45, "holds": False}
    small, large = {"processor": "A", "cores": 2}, {"processor": "B", "cores": 8}
    written(tmp_path, "op_speed", musts=[held, missed], machine=small)
    for name in ("plan", "op_growth", "op_threads"):
        written(tmp_path, name, musts=[], machine=small)
    written(tmp_path, "loss", musts=[], machine=large)

    table = update.musts_table()

    assert "| 0.40 | 0.40 to 0.60 | 0.45 |" in table
    assert "| 0.50 | 0.40 to 0.60 | 0.45, missed |" in table
    assert table.endswith("op_speed, plan, op_growth, op_threads: A, 2 cores; loss: B, 8 cores.")


@pytest.fixture
def scaling(monkeypatch):
    return imported("scaling", monkeypatch)


def test_the_trainer_is_held_against_the_bare_loop_and_against_each_peer_that_is_there(scaling):
    times = {"bare": [10.0, 10.0], "Trainer": [90.0, 94.0], "Fabric": [70.0, 70.0]}
    works = {"bare": [4.0, 5.0], "Trainer": [84.0, 87.0], "Fabric": [60.0, 61.0]}

    rows = scaling.overheads_of("one process", times, works)
    assert [row["at_work"]["median"] for row in rows] == [81.0, 56.0, 25.0]
    held = {(row["arm"], row["over"]): (row["median"], row["must"], row["holds"]) for row in rows}
    assert held == {
        ("Trainer", "bare"): (82.0, 100.0, True),
        ("Fabric", "bare"): (60.0, None, None),
        ("Trainer", "Fabric"): (22.0, 0.0, False),
    }


def test_what_processes_bring_is_measured_by_jobs_of_one_and_of_two(scaling, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scaling.py", "--quick"])
    launch, started = scaling.launched, []

    def launched(processes, what, trials, steps):
        started.append((processes, what))
        if (processes, what) == (2, "overhead"):
            return launch(processes, what, trials, steps)
        taken = {"bare": [1.0, 1.0], "Trainer": [1.0, 1.0]}
        return {"images_per_second": [1.0], "times": taken, "works": taken, "peers": {}}

    monkeypatch.setattr(scaling, "launched", launched)
    scaling.main()

    assert started == [(1, "overhead"), (2, "overhead"), *[(1, "training"), (2, "training")] * 2]
    assert "two processes: Trainer over bare" in capsys.readouterr().out


def test_what_grows_with_the_scale_is_measured_on_small_sizes(monkeypatch, capsys):
    scale = imported("scale", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["scale.py", "--quick"])
    monkeypatch.setattr(scale, "WAYS", {"Trainer, 1,000 ranks": 1000})

    scale.main()

    assert "of which nothing is promised" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and it would be measured")
def test_the_benchmark_of_the_gpu_says_that_there_is_none(monkeypatch, capsys):
    imported("triton_gpu", monkeypatch).main()

    assert "there is no GPU here" in capsys.readouterr().out
