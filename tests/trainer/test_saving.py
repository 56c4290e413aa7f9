"""Which checkpoints are written, and which of them stay."""

import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cutmix.core.callback import Callback
from cutmix.core.time import Time
from cutmix.trainer import Trainer
from cutmix.trainer.callbacks.finite import NonFiniteLossError
from cutmix.trainer.checkpoints.checkpoint import checkpoints
from cutmix.trainer.checkpoints.manifest import CheckpointError
from cutmix.trainer.checkpoints.saving import Best, Interval


def loader():
    return DataLoader(
        TensorDataset(torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2), 4
    )


def trainer(folder, *callbacks, duration="3ep", seed=0, **settings):
    torch.manual_seed(0)
    return Trainer(
        nn.Linear(3, 2),
        loader(),
        loader(),
        duration,
        seed=seed,
        callbacks=callbacks,
        progress_bar=False,
        save_folder=folder,
        device="cpu",
        **settings,
    )


def names(folder):
    return [path.name for path in checkpoints(folder / "checkpoints")]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("1ep", ["ep1-ba3", "ep2-ba6", "ep3-ba9"]),
        ("2ep", ["ep2-ba6", "ep3-ba9"]),
        ("4ba", ["ep1-ba4", "ep2-ba8", "ep3-ba9"]),
        ("20sp", ["ep1-ba5", "ep3-ba9"]),
        ("10min", ["ep3-ba9"]),
        (None, []),
        (0, []),
    ],
)
def test_a_checkpoint_is_written_at_each_interval_and_at_the_end(interval, expected, tmp_path):
    trainer(tmp_path, save_interval=interval).fit()

    assert names(tmp_path) == expected


def test_by_the_clock_on_the_wall_it_is_due_when_the_time_has_passed(tmp_path, monkeypatch):
    minutes = iter(range(0, 1000, 1))
    monkeypatch.setattr("cutmix.trainer.checkpoints.saving.monotonic", lambda: 60.0 * next(minutes))

    trainer(tmp_path, save_interval="3min").fit()
    assert len(names(tmp_path)) > 2


def test_a_run_that_ends_within_an_epoch_is_saved_there(tmp_path):
    trainer(tmp_path, duration="5ba").fit()

    assert names(tmp_path) == ["ep1-ba3", "ep1-ba5"]


def test_only_the_newest_are_kept_if_so_told(tmp_path):
    trainer(tmp_path, save_interval="1ba", save_num_checkpoints_to_keep=2).fit()

    assert names(tmp_path) == ["ep2-ba9", "ep3-ba9"]


class Figures(Callback):
    """Puts losses of its own in the place of those that were measured."""

    def __init__(self, *values):
        self.values = iter(values)

    def eval_end(self, state, logger):
        state.eval_metrics["eval/loss"] = next(self.values)


@pytest.mark.parametrize(("save_best", "best"), [("eval/loss", "ep2-ba6"), ("max:eval/loss", "ep3-ba9")])
def test_the_best_checkpoint_is_kept_beside_the_newest(save_best, best, tmp_path):
    fitted = trainer(
        tmp_path, Figures(2.0, 1.0, 3.0, 2.0), duration="4ep", save_best=save_best, save_num_checkpoints_to_keep=1
    )
    fitted.fit()

    assert fitted.best_checkpoint == tmp_path / "checkpoints" / best
    assert names(tmp_path) == [best, "ep4-ba12"]


def test_the_best_is_still_known_after_a_resume(tmp_path):
    settings = {"save_best": "eval/loss", "save_num_checkpoints_to_keep": 1}
    trainer(tmp_path, Figures(1.0, 2.0), duration="2ep", **settings).fit()
    resumed = trainer(tmp_path, Figures(3.0, 4.0), duration="4ep", autoresume=True, **settings)
    resumed.fit()

    assert resumed.best_checkpoint.name == "ep1-ba3"
    assert names(tmp_path) == ["ep1-ba3", "ep4-ba12"]


def test_a_figure_that_is_not_measured_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"save_best must name a figure of evaluation, got 'eval/f1'; there are eval/loss"
    ):
        trainer(tmp_path, save_best="eval/f1").fit()


def test_a_checkpoint_can_be_written_by_hand(tmp_path):
    fitted = trainer(tmp_path, save_interval="3ep")
    fitted.fit("2ba")

    assert fitted.save_checkpoint() == tmp_path / "checkpoints" / "ep0-ba2"
    with pytest.raises(ValueError, match="save_folder must be given to save"):
        trainer(None).save_checkpoint()


def test_a_run_goes_on_elsewhere_from_the_newest_of_another(tmp_path):
    trainer(tmp_path / "one", duration="2ep").fit()
    elsewhere = trainer(tmp_path / "two", load_path=tmp_path / "one")
    elsewhere.fit()

    whole = trainer(tmp_path / "whole")
    whole.fit()
    assert all(map(torch.equal, elsewhere.state.model.parameters(), whole.state.model.parameters()))
    log = (tmp_path / "two" / "metrics.jsonl").read_text()
    assert (tmp_path / "whole" / "metrics.jsonl").read_text().endswith(log)
    assert log.startswith('{"step": 7,')


def test_without_a_seed_a_resume_takes_that_of_the_checkpoint(tmp_path):
    trainer(tmp_path, duration="1ep", seed=7).fit()

    assert trainer(tmp_path, seed=None, autoresume=True).state.seed == 7


def test_a_checkpoint_whose_replacement_was_interrupted_is_gone_on_from(tmp_path):
    trainer(tmp_path, duration="1ep").fit()
    (tmp_path / "checkpoints" / "ep1-ba3").rename(tmp_path / "checkpoints" / ".ep1-ba3.replaced")

    assert trainer(tmp_path, autoresume=True).state.timestamp.batch == 3


def test_a_log_that_belongs_to_no_checkpoint_is_kept_under_another_name(tmp_path):
    trainer(tmp_path, save_interval=None, duration="1ep").fit()
    before = (tmp_path / "metrics.jsonl").read_text()
    trainer(tmp_path, autoresume=True).fit()

    assert (tmp_path / "metrics.jsonl.1").read_text() == before


def test_a_log_that_is_shorter_than_its_checkpoint_tells_is_refused(tmp_path):
    trainer(tmp_path, duration="1ep").fit()
    (tmp_path / "metrics.jsonl").write_text("")

    with pytest.raises(ValueError, match=r"metrics\.jsonl must hold the \d+ bytes .* got 0; put the file back"):
        trainer(tmp_path, autoresume=True)


def test_where_no_checkpoint_is_whole_nothing_is_begun_anew(tmp_path):
    trainer(tmp_path, duration="1ep").fit()
    (tmp_path / "checkpoints" / "ep1-ba3" / "manifest.json").write_text("{")

    with (
        pytest.warns(UserWarning, match=r"manifest\.json"),
        pytest.raises(CheckpointError, match="move the folder away"),
    ):
        trainer(tmp_path, autoresume=True)


def there(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def sent_back(folder, to, **settings):
    return trainer(folder, load_path=folder / "checkpoints" / to, save_interval="1ba", **settings)


SET_ASIDE = "2 checkpoints are later than ep1-ba4, where the run goes on: .* kept as ep1-ba6.1, ep2-ba8.1"


@pytest.mark.parametrize("keep", [-1, 9])
def test_a_run_that_was_sent_back_goes_on_from_where_it_came_to_then_and_nothing_is_lost(keep, tmp_path):
    trainer(tmp_path, duration="8ba", save_interval="2ba").fit()
    given_up = (tmp_path / "checkpoints" / "ep2-ba8" / "manifest.json").read_bytes()
    with pytest.warns(UserWarning, match=SET_ASIDE):
        sent_back(tmp_path, "ep1-ba4", duration="5ba", save_num_checkpoints_to_keep=keep).fit()

    assert trainer(tmp_path, autoresume=True).state.timestamp.batch == 5
    assert there(tmp_path) == ["ep0-ba2", "ep1-ba4", "ep1-ba5", "ep1-ba6.1", "ep2-ba8.1"]
    assert (tmp_path / "checkpoints" / "ep2-ba8.1" / "manifest.json").read_bytes() == given_up


def test_it_does_so_when_it_is_killed_before_its_first_checkpoint_too(tmp_path):
    class Killed(Callback):
        def batch_end(self, state, logger):
            raise KeyboardInterrupt

    trainer(tmp_path, duration="8ba", save_interval="2ba").fit()
    with pytest.warns(UserWarning, match=SET_ASIDE), pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, Killed(), load_path=tmp_path / "checkpoints" / "ep1-ba4").fit()

    again = trainer(tmp_path, autoresume=True)
    assert again.state.timestamp.batch == 4
    again.fit()
    whole = trainer(tmp_path / "whole")
    whole.fit()
    assert (tmp_path / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_a_run_that_was_sent_back_gives_nothing_up_to_be_measured_but_to_be_saved(tmp_path):
    trainer(tmp_path, duration="8ba", save_interval="2ba").fit()
    back = sent_back(tmp_path, "ep1-ba4")

    back.eval()
    assert there(tmp_path) == ["ep0-ba2", "ep1-ba4", "ep1-ba6", "ep2-ba8"]
    with pytest.warns(UserWarning, match=SET_ASIDE):
        back.save_checkpoint()
    assert there(tmp_path) == ["ep0-ba2", "ep1-ba4", "ep1-ba6.1", "ep2-ba8.1"]


def test_what_was_given_up_twice_is_there_twice(tmp_path):
    trainer(tmp_path, duration="2ba", save_interval="1ba").fit()
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 checkpoint is later than ep0-ba1, where the run goes on"):
            sent_back(tmp_path, "ep0-ba1", duration="2ba").fit()

    assert there(tmp_path) == ["ep0-ba1", "ep0-ba2", "ep0-ba2.1", "ep0-ba2.2"]


def test_what_was_given_up_is_no_checkpoint_of_the_run_any_more_but_another_may_go_on_from_it(tmp_path):
    trainer(tmp_path, duration="2ba", save_interval="1ba").fit()
    with pytest.warns(UserWarning, match="where the run goes on"):
        sent_back(tmp_path, "ep0-ba1", duration="3ba").fit()
    elsewhere = trainer(tmp_path / "other", load_path=tmp_path / "checkpoints" / "ep0-ba2.1")

    assert elsewhere.state.timestamp.batch == 2
    with pytest.raises(ValueError, match="save_folder must hold no other run"):
        sent_back(tmp_path, "ep0-ba2.1").fit()


def test_the_checkpoints_that_were_given_up_go_first(tmp_path):
    trainer(tmp_path, duration="8ba", save_interval="2ba").fit()
    (tmp_path / "checkpoints" / "ep2-ba8" / "state.json").write_text("{}")
    with pytest.warns(UserWarning, match="passed over"):
        resumed = trainer(
            tmp_path, duration="7ba", save_interval="1ba", save_num_checkpoints_to_keep=2, autoresume=True
        )
    with pytest.warns(UserWarning, match="1 checkpoint is later than ep1-ba6"):
        resumed.fit()

    assert there(tmp_path) == ["ep1-ba6", "ep2-ba7"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"save_interval": "often"}, r"save_interval must be at least one epoch.* or minutes, '10min'"),
        ({"save_interval": "0min"}, r"save_interval must be at least a minute, got '0min'"),
        ({"save_num_checkpoints_to_keep": 0}, r"save_num_checkpoints_to_keep must be at least 1, got 0; -1 keeps all"),
        ({"save_best": ""}, r"save_best must name a figure of evaluation, got ''"),
        ({"save_best": "eval/loss", "save_interval": None}, r"save_best must come with a save_folder"),
    ],
)
def test_bad_settings_are_refused(settings, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        trainer(tmp_path, **settings)


def test_autoresume_needs_a_folder():
    with pytest.raises(ValueError, match="autoresume must come with a save_folder"):
        trainer(None, autoresume=True)


def test_a_path_that_is_no_checkpoint_is_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        trainer(None, load_path=tmp_path)


def test_what_is_written_is_read():
    assert Interval.parse("10min") == Interval(seconds=600.0)
    assert Interval.parse("500ba") == Interval(Time(500, "ba"))
    assert Best.parse("eval/accuracy") == Best("eval/accuracy", highest=True)
    assert Best.parse("eval/val/loss") == Best("eval/val/loss", highest=False)
    assert Best.parse("min:eval/error") == Best("eval/error", highest=False)


def test_weights_that_are_worth_nothing_are_not_saved(tmp_path):
    class Spoil(Callback):
        def batch_end(self, state, logger):
            if state.timestamp.batch == 2:
                state.model.weight.data[0, 0] = torch.nan

    with pytest.raises(NonFiniteLossError, match=r"weights must stay finite, got nan or infinity in \[weight\]"):
        trainer(tmp_path, Spoil(), save_interval="1ba").fit()
    assert names(tmp_path) == ["ep0-ba1"]
