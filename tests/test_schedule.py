import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix.algorithms import CutMix, CutOut, MixUp, OneOf, linear
from cutmix.core.algorithm import Algorithm
from cutmix.core.event import Event
from cutmix.core.time import Moment, Time
from cutmix.trainer import Trainer
from strategies import numbered

IMAGES, LABELS = numbered(4, 3, 6, 9), torch.arange(4)
shares = st.floats(0, 1)
alphas = st.floats(0.01, 100)


@given(alphas, alphas, shares, shares)
def test_a_line_goes_from_its_start_to_its_stop_and_never_back(start, stop, one, other):
    line = linear(start, stop)
    early, late = line(min(one, other)), line(max(one, other))

    assert line(0) == start
    assert line(1) == pytest.approx(stop, rel=1e-12)
    assert min(start, stop) <= early <= max(start, stop)
    assert early <= late if start <= stop else early >= late


@given(alphas, alphas, shares)
def test_a_recipe_of_a_moment_depends_on_nothing_but_the_moment(start, stop, share):
    mix = CutMix(alpha=linear(start, stop), p=lambda elapsed: 1 - elapsed)

    assert mix.at(share) == CutMix(alpha=linear(start, stop)(share), p=1 - share)
    assert mix.at(share) == mix.at(share)


@given(st.integers(1, 400), st.data())
def test_a_time_can_be_written_in_several_ways(epochs, data):
    epoch = data.draw(st.integers(0, epochs))
    mix = MixUp(alpha=linear(0.2, 0.8))

    ways = [mix.at(epoch / epochs), mix.at(epoch, of=epochs), mix.at(f"{epoch}ep", of=f"{epochs}ep")]
    assert ways == [mix.at(epoch, of=Time(epochs))] * 3


@pytest.mark.parametrize("mix", [CutMix(), MixUp(alpha=0.8, p=0.5), OneOf([CutMix(), MixUp()]), CutOut()])
def test_what_follows_no_clock_is_its_own_recipe_at_any_moment(mix):
    assert mix.at(0.5) is mix
    assert mix.at("12ep") is mix


@pytest.mark.parametrize(
    ("until", "before", "after"),
    [
        ("270ep", [{"time": "269ep"}, {"time": 269.9, "of": 300}, {"time": 0, "of": "300ep"}], [{"time": "270ep"}]),
        (Time(10, "ba"), [{"time": "9ba"}], [{"time": "10ba"}, {"time": 11, "of": "20ba"}]),
        (0.9, [{"time": 0.89}, {"time": 89, "of": 100}], [{"time": 0.9}, {"time": "95ba", "of": "100ba"}]),
    ],
)
def test_nothing_is_mixed_from_a_moment_on(until, before, after):
    for mix in (
        CutMix(until=until),
        MixUp(until=until, mixing=0.3),
        CutMix(length=0.5, pairing="shuffle", until=until),
        OneOf([CutMix(length=0.5), MixUp(mixing=0.3)], until=until),
        OneOf([CutMix(length=0.5, until=until), MixUp(mixing=0.3, until=until)], per_sample=True),
    ):
        assert any((mix.at(**when).draw(IMAGES.shape).kept < 1).any() for when in before for _ in range(20))
        assert all((mix.at(**when).draw(IMAGES.shape).kept == 1).all() for when in after for _ in range(20))
    for when in after:
        assert torch.equal(CutOut(until=until).at(**when)(IMAGES), IMAGES)
    for when in before:
        assert not torch.equal(CutOut(until=until).at(**when)(IMAGES), IMAGES)


def test_the_end_is_known_without_the_length_of_the_run():
    mix = CutMix(alpha=linear(1.0, 0.2), until="270ep")

    assert (mix.at("280ep").draw(IMAGES.shape).kept == 1).all()


def test_an_alpha_may_end_at_0_by_way_of_the_smallest_numbers():
    mix = CutMix(alpha=linear(1.0, 0.0))

    assert mix.at(0.99).alpha == pytest.approx(0.01)
    assert mix.at(1.0).alpha == 0.0
    assert (mix.at(1.0).draw(IMAGES.shape).kept == 1).all()


def test_a_switch_follows_the_clock_where_its_recipes_do():
    switch = OneOf([CutMix(alpha=linear(1.0, 0.2)), MixUp(p=linear(0.0, 1.0))], [1, 2], per_sample=True)

    assert switch.at(0.5) == OneOf([CutMix(alpha=0.6), MixUp(p=0.5)], [1, 2], per_sample=True)


@pytest.mark.parametrize("mix", [CutMix(p=linear(0.0, 1.0)), MixUp(until=0.5), OneOf([CutMix(until=0.5), MixUp()])])
def test_without_a_time_what_follows_the_clock_is_refused_with_the_remedy(mix):
    with pytest.raises(ValueError, match=r"must come with a time .* mix\.at\(epoch, of=epochs\)"):
        mix(IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"must come with a time"):
        mix.draw(IMAGES.shape)
    with pytest.raises(ValueError, match=r"workers do not see the clock"):
        mix.collate()
    mix.at(0.5).collate()
    mix.at(0.5)(IMAGES.float(), LABELS)


def test_holes_that_follow_the_clock_need_a_time():
    with pytest.raises(ValueError, match=r"holes must come with a time .*p=linear\(start=0\.0, stop=1\.0\)"):
        CutOut(p=linear(0.0, 1.0))(IMAGES)
    assert CutOut(p=linear(0.0, 1.0)).at(0.25) == CutOut(p=0.25)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"alpha": lambda share: 1 - 2 * share}, ValueError, r"alpha must lie in \[0, inf\], got -"),
        ({"alpha": lambda share: "1"}, TypeError, r"alpha must be a number, got '1'"),
        ({"alpha": lambda share: math.nan if share > 0.5 else 1}, ValueError, r"alpha must lie in \[0, inf\], got nan"),
        ({"p": linear(0.0, 2.0)}, ValueError, r"p must lie in \[0, 1\], got 1\.0"),
        ({"until": 0}, TypeError, r"until must be a time or a share of the run, got 0: write '270ep' or 0\.9"),
        ({"until": 270}, TypeError, r"until must be a time or a share of the run, got 270"),
        ({"until": True}, TypeError, r"until must be a time or a share of the run, got True"),
        ({"until": 1.5}, ValueError, r"until must lie in \(0, 1\] as a share of the run, got 1\.5"),
        ({"until": 0.0}, ValueError, r"until must lie in \(0, 1\]"),
        ({"until": "soon"}, ValueError, r"until must be at least one epoch, batch or sample, got 'soon'"),
    ],
)
def test_a_schedule_is_checked_over_its_whole_range_when_it_is_made(settings, error, words):
    with pytest.raises(error, match=words) as raised:
        CutMix(**settings)
    assert "until" in settings or "of the run is over." in raised.value.__notes__[0]


def test_the_ends_of_a_line_are_numbers():
    with pytest.raises(TypeError, match=r"start must be a number, got '1'"):
        linear("1", 0)
    with pytest.raises(ValueError, match=r"stop must lie in \[0, inf\], got -1"):
        linear(1, -1)


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"time": 1.5}, r"time must lie in the run, from 0 to 1, as a share of it, got 1\.5"),
        ({"time": -0.1}, r"time must lie in the run"),
        ({"time": math.nan}, r"time must lie in the run"),
        ({"time": 301, "of": 300}, r"time must lie in the run, from 0 to 300ep, got 301"),
        ({"time": "3ba", "of": 300}, r"time must lie in the run, from 0 to 300ep, got '3ba'"),
        ({"time": "soon"}, r"time must be a share of the run from 0 to 1, or a time .* got 'soon'"),
        ({"time": None}, r"time must be a share of the run"),
        ({"time": 3, "of": "all"}, r"of must be at least one epoch, batch or sample, got 'all'"),
        ({"time": "12ep"}, r"time must come with the length of the run, which alpha=linear.* got '12ep' alone"),
    ],
)
def test_a_time_outside_the_run_is_refused(when, words):
    with pytest.raises(ValueError, match=words):
        CutMix(alpha=linear(1.0, 0.5)).at(**when)


def test_an_end_in_another_unit_is_refused():
    with pytest.raises(ValueError, match=r"time must be counted in the unit of until='270ep', got 0\.5 of the run"):
        CutMix(until="270ep").at(0.5)
    with pytest.raises(ValueError, match=r"time must be counted in the unit of until='270ep', got '3ba'"):
        CutMix(until="270ep").at("3ba")
    with pytest.raises(ValueError, match=r"length of the run, which until=0\.9 goes by, got '3ba' alone"):
        CutMix(until=0.9).at("3ba")


def test_a_schedule_is_a_value():
    mix = CutMix(alpha=linear(1.0, 0.2), until="270ep")

    assert mix == pickle.loads(pickle.dumps(mix)) == CutMix(alpha=linear(1.0, 0.2), until="270ep")
    assert hash(mix) == hash(CutMix(alpha=linear(1.0, 0.2), until="270ep"))
    assert "alpha=linear(start=1.0, stop=0.2)" in repr(mix)
    assert "until='270ep'" in repr(mix)


def test_a_tensor_without_axes_is_taken_for_its_number():
    assert CutMix(alpha=torch.tensor(0.5, dtype=torch.float64), p=torch.tensor(1.0)) == CutMix(alpha=0.5, p=1.0)
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, inf\], got -1"):
        CutMix(alpha=torch.tensor(-1.0))
    with pytest.raises(TypeError, match=r"alpha must be a number"):
        CutMix(alpha=torch.tensor([1.0]))


class Watch(Algorithm):
    """Sees how much is kept in each step, after the mixer."""

    def __init__(self):
        self.kept, self.moments = [], []

    def match(self, event, state):
        return event in (Event.AFTER_DATALOADER, Event.BEFORE_LOSS)

    def apply(self, event, state, logger):
        if event == Event.BEFORE_LOSS:
            self.kept.append(state.batch[1].kept.mean().item())
            self.moments.append(state.moment)


def trainer(*algorithms, duration="4ep", batches=5, **settings):
    loader = torch.utils.data.DataLoader(
        [(image.float(), label) for image, label in zip(IMAGES, LABELS, strict=True)] * batches, 4
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(162, 4))
    settings = {"seed": 0, "progress_bar": False, "eval_interval": None, **settings}
    return Trainer(model, loader, algorithms=algorithms, max_duration=duration, **settings)


@pytest.mark.parametrize("until", ["3ep", "15ba", "60sp", 0.75])
def test_in_the_trainer_nothing_is_mixed_in_the_last_epochs(until):
    watch = Watch()
    trainer(MixUp(mixing=0.3, until=until), watch).fit()

    assert watch.kept == pytest.approx([0.7] * 15 + [1.0] * 5)


@pytest.mark.parametrize("duration", ["4ep", "20ba", "80sp"])
def test_in_the_trainer_the_share_grows_batch_by_batch(duration):
    watch = Watch()
    trainer(CutMix(alpha=linear(1.0, 0.2)), watch, duration=duration).fit()

    assert [moment.share for moment in watch.moments] == pytest.approx([step / 20 for step in range(20)])
    assert watch.moments[7] == Moment(0.35, ep=1, ba=7, sp=28)


def test_a_second_fit_goes_on_by_the_longer_run():
    watch = Watch()
    run = trainer(MixUp(mixing=0.3, p=lambda share: float(share < 0.5)), watch, duration="2ep")
    run.fit()
    run.fit("2ep")

    assert [kept < 1 for kept in watch.kept] == [True] * 5 + [False] * 15
    assert watch.moments[10].share == 0.5


def test_a_scheduled_plan_is_a_function_of_the_step_alone():
    """The plan of a late step is drawn without those before it, as after a resume."""
    mix, whole, late = CutMix(alpha=linear(1.0, 0.2), per_sample=True), Watch(), Watch()
    trainer(mix, whole).fit()
    run = trainer(mix, late)
    run.state.timestamp = run.state.timestamp.next_epoch().next_epoch()
    run.state.timestamp = type(run.state.timestamp)(epoch=2, batch=10, sample=40)
    run.fit()

    assert late.kept == whole.kept[10:]


def test_holes_follow_the_clock_in_the_trainer():
    seen = []

    class Look(Watch):
        def apply(self, event, state, logger):
            if event == Event.BEFORE_LOSS:
                seen.append((state.batch[0] == -7).any().item())

    trainer(CutOut(fill=-7, until="2ep"), Look()).fit()

    assert seen == [True] * 10 + [False] * 10
