"""``cutmix train`` that is stopped and goes on."""

import json

import pytest
from PIL import Image

from cutmix.__main__ import main
from cutmix.trainer.loop import Loop


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name, colour in {"blue": (30, 40, 200), "red": (200, 40, 30)}.items():
        (folder / name).mkdir()
        for number in range(6):
            Image.new("RGB", (12, 8), tuple(channel + 8 * number for channel in colour)).save(
                folder / name / f"{number}.png"
            )
    return folder


@pytest.fixture
def train(pictures):
    def run(folder, *options):
        return main([
            "train", "--data", str(pictures), "--batch-size", "4", "--max-duration", "4ep", "--algorithms", "cutmix",
            "--quiet", "--save-folder", str(folder), *options,
        ])  # fmt: skip

    return run


def stop_at(monkeypatch, step):
    whole = Loop._step

    def stopping(self, share):
        if self._state.timestamp.batch == step:
            raise KeyboardInterrupt
        whole(self, share)

    monkeypatch.setattr(Loop, "_step", stopping)


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes(train, tmp_path, monkeypatch):
    assert train(tmp_path / "whole") == 0
    with monkeypatch.context() as patched:
        stop_at(patched, 7)
        assert train(tmp_path / "parts", "--save-interval", "2ba") == 130
    assert not (tmp_path / "parts" / "weights.safetensors").exists()

    assert train(tmp_path / "parts", "--save-interval", "2ba", "--autoresume") == 0
    for name in ("metrics.jsonl", "weights.safetensors", "mixed.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(list((tmp_path / "parts" / "checkpoints").iterdir())) == 2


def test_a_run_that_is_stopped_says_how_to_go_on_and_then_from_where(pictures, tmp_path, monkeypatch, capsys):
    options = ["train", "--data", str(pictures), "--batch-size", "4", "--max-duration", "2ep", "--save-interval", "1ba"]
    with monkeypatch.context() as patched:
        stop_at(patched, 2)
        assert main([*options, "--save-folder", str(tmp_path / "run")]) == 130
    assert f"stopped; go on with --save-folder {tmp_path / 'run'} --autoresume" in capsys.readouterr().out

    assert main([*options, "--save-folder", str(tmp_path / "run"), "--autoresume"]) == 0
    assert f"Going on from {tmp_path / 'run' / 'checkpoints' / 'ep0-ba2'}." in capsys.readouterr().err


def test_a_run_that_is_over_is_left_as_it_is(train, tmp_path):
    assert train(tmp_path, "--autoresume") == 0
    before = (tmp_path / "metrics.jsonl").read_bytes()

    assert train(tmp_path, "--autoresume") == 0
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_another_run_does_not_go_on_with_it(train, tmp_path, capsys):
    assert train(tmp_path) == 0

    assert train(tmp_path, "--autoresume", "--lr", "0.1") == 2
    assert "holds a run that differs in its settings" in capsys.readouterr().err
    assert train(tmp_path) == 2
    assert json.loads((tmp_path / "config.json").read_text())["settings"]["task"]["lr"] == 0.05


def test_an_interval_that_cannot_be_read_is_refused_before_anything_is_made(train, tmp_path, capsys):
    assert train(tmp_path / "run", "--save-interval", "often") == 2
    assert "save_interval must be" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
