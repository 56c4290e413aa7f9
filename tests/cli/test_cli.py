"""The command line from end to end, on a few tiny pictures."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from cutmix.__main__ import main
from cutmix.cli import boxed

COLOURS = {"blue": (30, 40, 200), "red": (200, 40, 30), "green": (30, 180, 60)}


def draw(folder, *, classes=COLOURS, pictures=6, size=(12, 8)):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(pictures):
            shade = tuple(min(255, channel + 8 * number) for channel in COLOURS[name])
            Image.new("RGB", size, shade).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def options(pictures):
    return ["--data", str(pictures), "--batch-size", "4", "--max-duration", "2ep"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_train_writes_everything_into_the_run_folder(options, tmp_path, capsys):
    folder = tmp_path / "run"

    code = main(["train", *options, "--algorithms", "cutmix:alpha=1.0", "--save-folder", str(folder), "--seed", "3"])

    assert code == 0
    assert {file.name for file in folder.iterdir()} == {
        "config.json", "metrics.jsonl", "timings.jsonl", "weights.safetensors", "mixed.png", "checkpoints",
        "trainer.lock",
    }  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"]["seed"] == 3
    assert config["algorithms"][0].startswith("CutMix(alpha=1.0")
    assert config["data"]["classes"] == ["blue", "green", "red"]
    assert set(config["versions"]) == {"python", "torch", "cutmix"}
    assert lines(folder / "metrics.jsonl")[-1]["eval/accuracy"] <= 1.0
    out = capsys.readouterr().out
    assert "3 classes" in out
    assert str(folder) in out


def test_quiet_is_quiet(options, tmp_path, capfd):
    assert main(["train", *options, "--quiet", "--save-folder", str(tmp_path / "run")]) == 0
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "run" / "mixed.png").exists()


def test_a_seed_repeats_metrics_and_weights_to_the_byte(options, tmp_path):
    for name, seed in (("one", "5"), ("two", "5"), ("other", "6")):
        assert (
            main(
                [
                    "train",
                    *options,
                    "--algorithms",
                    "cutmix",
                    "--quiet",
                    "--seed",
                    seed,
                    "--save-folder",
                    str(tmp_path / name),
                ]
            )
            == 0
        )

    one, two, other = (
        [(tmp_path / name / file).read_bytes() for file in ("metrics.jsonl", "weights.safetensors")]
        for name in ("one", "two", "other")
    )
    assert one == two
    assert one[0] != other[0]
    assert one[1] != other[1]


def refused(arguments, capsys):
    """Return the one line that a refused command says."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (["--batch-size", "0"], "batch_size must be 1 or more, got 0"),
        (["--lr", "nan"], "lr must be above 0 and finite, got nan"),
        (["--max-duration", "soon"], "max_duration must be"),
        (["--model", "resnet9"], "model must be one of resnet8"),
        (["--algorithms", "cutmux"], "algorithm must be one of baseline, cutmix, mixup"),
        (["--algorithms", "cutmix:beta=1"], "each setting must be one of alpha"),
        (["--algorithms", "cutmix", "--algorithms", "mixup"], "one that mixes at most"),
        (["--seed", "-1"], "seed must be 0 or more, got -1"),
    ],
)
def test_a_bad_setting_is_one_line_and_nothing_is_written(bad, complaint, options, tmp_path, capsys):
    folder = tmp_path / "run"

    assert complaint in refused(["train", *options, *bad, "--save-folder", str(folder)], capsys)
    assert not folder.exists()


def test_a_folder_without_classes_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()

    assert "empty" in refused(
        ["train", "--data", str(tmp_path / "empty"), "--save-folder", str(tmp_path / "run")], capsys
    )
    assert not (tmp_path / "run").exists()


def test_a_damaged_picture_is_refused_by_name_or_counted(options, tmp_path, capsys):
    data = draw(tmp_path / "pictures")
    (data / "red" / "0.png").write_bytes(b"no picture")
    command = ["train", "--data", str(data), *options[2:], "--save-folder", str(tmp_path / "run")]

    assert "0.png" in refused(command, capsys)
    assert not (tmp_path / "run").exists()
    assert main([*command, "--skip-bad"]) == 0
    assert "1 damaged" in capsys.readouterr().out


def test_class_sets_that_differ_are_refused(options, tmp_path, capsys):
    data = draw(tmp_path / "test", classes=["blue", "red"])

    assert "green" in refused(
        ["train", *options, "--eval-data", str(data), "--save-folder", str(tmp_path / "run")], capsys
    )
    assert not (tmp_path / "run").exists()


def test_a_parquet_file_without_images_is_refused(tmp_path, capsys):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "words.parquet")

    line = refused(["train", "--data", str(tmp_path / "words.parquet"), "--save-folder", str(tmp_path / "run")], capsys)
    assert "words.parquet" in line
    assert not (tmp_path / "run").exists()


def test_a_save_folder_that_cannot_be_made_is_refused(options, tmp_path, capsys):
    (tmp_path / "file").touch()

    line = refused(["train", *options, "--save-folder", str(tmp_path / "file" / "run")], capsys)
    assert f"(Not a directory: {tmp_path / 'file'}); name another" in line


def test_another_runs_folder_is_refused_and_left_as_it_is(options, tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")

    assert "is not empty" in refused(["train", *options, "--save-folder", str(tmp_path)], capsys)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "cutmix: Expected one of {train, compare, demo, launch}; see cutmix --help"),
        (["trian"], "cutmix: Unrecognized options: trian; see cutmix --help"),
        (["train"], "cutmix: Missing from cutmix train: --data"),
        (["train", "--data", "x", "--frob"], "cutmix: Unrecognized options: --frob; see cutmix train --help"),
        (
            ["train", "--data", "x", "--lr", "abc"],
            "cutmix: Error parsing --lr: could not convert string to float: 'abc'",
        ),
        (["compare", "--data", "x", "--jobs"], "cutmix: Missing value for argument '--jobs'. Expected 1 values; see"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line(arguments, complaint, capsys):
    assert refused(arguments, capsys).startswith(complaint)


@pytest.mark.parametrize(
    "box",
    [
        "╭─ Value error ───────╮\n│ Error parsing --lr: │\n│ no number           │\n│ ─────────────────── │\n│ Help │",
        "\x1b[31m╭─ Value error ───────╮\x1b[0m\n│ \x1b[91mError\x1b[0m parsing --lr: no number │\n│ ─────── │\n",
        " Value error \n ------------- \n  Error parsing --lr: no number.\n  ------------- \n  Help\n",
        "Error parsing --lr: no number\n",
    ],
)
def test_what_stands_in_a_box_of_any_kind_becomes_a_line(box):
    assert boxed(box) == "Error parsing --lr: no number"


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])

    assert end.value.code in (None, 0)
    assert "--batch-size" in capsys.readouterr().out


def test_the_version_is_said(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cutmix {version('cutmix')}\n"


def test_ctrl_c_while_data_loads_ends_without_a_word(options, tmp_path, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("cutmix.runs.train.load", interrupted)

    assert main(["train", *options, "--save-folder", str(tmp_path / "run")]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_run_that_diverges_ends_with_70_and_says_so(quiet, options, tmp_path, capsys):
    code = main(["train", *options, *quiet, "--lr", "1e20", "--save-folder", str(tmp_path / "run")])

    assert code == 70
    assert "cutmix: the loss must stay finite, got nan at step" in capsys.readouterr().err.splitlines()[-1]


def test_a_missing_package_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr("cutmix.__main__.EXTRA", ("no_such_package",))

    assert main(["demo"]) == 2
    assert capsys.readouterr().err == 'needs: pip install "cutmix[cli]" (without no_such_package)\n'


def test_the_module_runs_as_the_command_does():
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "cutmix", "train", "--help"], capture_output=True, text=True, check=False
    )

    assert run.returncode == 0
    assert all(
        option in run.stdout for option in ("--data", "--no-augment", "--no-flip", "--skip-bad", "--save-folder")
    )


def test_a_model_of_ones_own_is_found_where_one_stands(options, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def build(num_classes):\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))\n"
    )
    command = [Path(sys.executable).with_name("cutmix"), "train", *options, "--quiet", "--model", "mine:build"]

    done = subprocess.run([*command, "--save-folder", "run"], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "weights.safetensors").exists()
