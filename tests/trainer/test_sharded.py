"""Several processes save their shards and go on from them as one does from a whole checkpoint."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import ranks
from cutmix.trainer.checkpoints.checkpoint import checkpoints, newest, read, verify
from cutmix.trainer.checkpoints.manifest import CheckpointError

TASKS = (
    "straight",
    "replicated",
    "resumed",
    "from_shards_to_ddp",
    "from_ddp_to_shards",
    "from_whole_to_shards",
    "two_are_kept",
    "what_is_made_whole",
    "who_verifies",
    "weights_into_shards",
    "by_torchs_own_reader",
    "no_room_on_rank_1",
    "a_folder_for_each_machine",
    "damaged",
    "another_model",
    "shards_that_are_no_blocks",
    "fixed",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return where the processes leave what they write."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("runs")
        patch.setenv("FOLDER", str(path))
        yield path


@pytest.fixture(scope="module")
def two(folder):
    """Return what two processes have come to, for each task."""
    first, second = ranks.run("sharding", 2, *TASKS)
    return {task: (first[task], second[task]) for task in TASKS}


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_a_sharded_run_that_is_stopped_and_goes_on_ends_with_the_same_bytes(two):
    straight, resumed = two["straight"][0], two["resumed"][0]

    assert resumed == straight == two["replicated"][0]


@pytest.mark.parametrize("way", ["from_shards_to_ddp", "from_ddp_to_shards", "from_whole_to_shards"])
def test_a_run_goes_on_sharded_from_whole_and_whole_from_sharded(way, two):
    assert two[way][0] == two["straight"][0]


def test_each_rank_has_files_of_its_own(two, folder):
    files = json.loads((folder / "straight" / "checkpoints" / "ep1-ba6" / "manifest.json").read_text())["files"]

    assert sorted(files) == [
        "state.json",
        *(
            f"{stem}{rank}.safetensors"
            for stem in ("training", "weights")
            for rank in ("-00001-of-00002", "-00002-of-00002", "")
        ),
    ]
    first, second = (files[f"weights-0000{rank}-of-00002.safetensors"]["size"] for rank in (1, 2))
    assert 0.7 < second / first < 1.0


def test_nothing_is_gathered_nor_read_whole_while_a_sharded_run_is_saved_and_goes_on(two):
    for sharded, whole in two["what_is_made_whole"]:
        assert sharded == [0, 0]
        assert whole[0] > 100


def test_ranks_share_the_verifying_of_shards(two):
    first, second = ({name for name in told if "-of-" in name} for told in two["who_verifies"])

    assert first == {"training-00001-of-00002.safetensors", "weights-00001-of-00002.safetensors"}
    assert second == {"training-00002-of-00002.safetensors", "weights-00002-of-00002.safetensors"}


def test_weights_saved_sharded_or_whole_are_loaded_into_a_sharded_model(two):
    (trained, *_), _ = two["weights_into_shards"]

    assert {weights for _, *loaded in two["weights_into_shards"] for weights in loaded} == {trained}


def test_torchs_own_reader_puts_the_shards_together(two):
    (trained, first), (_, second) = two["by_torchs_own_reader"]

    assert first == second == trained


def test_only_the_newest_are_kept_if_so_told(two, folder):
    assert names(folder / "two") == ["ep1-ba5", "ep1-ba6"]


def test_what_keeps_one_rank_from_saving_is_raised_on_all_and_leaves_the_earlier_ones(two, folder):
    first, second = two["no_room_on_rank_1"]

    assert first == second
    assert "save_folder must take a checkpoint of" in first[0]
    assert first[1:] == [28, [0, 1]]
    assert names(folder / "no room") == ["ep0-ba1", "ep0-ba2"]
    verify(folder / "no room" / "checkpoints" / "ep0-ba2")


def test_machines_that_see_other_folders_are_told(two):
    for said, left in two["a_folder_for_each_machine"]:
        assert "got 'a machine that does not see the folder which rank 0 has made' for" in said
        assert left == []


def test_a_bit_flipped_in_a_shard_is_refused_by_the_file_and_the_one_before_is_gone_on_from(two):
    for refused, said, batch in two["damaged"]:
        assert "ep0-ba3/weights-00002-of-00002.safetensors must have the SHA-256" in refused
        assert said == [f"{refused} It is passed over for the checkpoint before it."]
        assert batch == 2


def test_another_model_is_told_by_the_same_words_as_from_a_whole_checkpoint_and_stays(two):
    for sharded, whole in two["another_model"]:
        assert sharded == whole
        said, is_changed = sharded
        assert not is_changed
        assert "it lacks spare.weight of model" in said
        assert "its first.weight is float32 of shape (6, 6), that of model is float32 of shape (7, 6)" in said


def test_shards_that_are_no_blocks_are_refused(two):
    for said, is_there in two["shards_that_are_no_blocks"]:
        assert "tensors must be cut into blocks to be saved or loaded by their shards, got" in said
        assert not is_there


def test_a_rank_that_is_killed_while_it_writes_leaves_the_checkpoint_before(two, folder):
    with pytest.raises(AssertionError):
        ranks.run("sharding", 2, "killed_while_it_writes")

    # The other rank is killed too, unless it hears of it first, and clears away what it has written.
    left = [name for name in names(folder / "killed") if name != ".ep0-ba3.writing"]
    assert newest(folder / "killed" / "checkpoints").name == left[-1] == "ep0-ba2"
    first, _ = ranks.run("sharding", 2, "after_the_kill")
    assert first["after_the_kill"] == two["straight"][0]
    assert ".ep0-ba3.writing" not in names(folder / "killed")


def test_a_shard_file_that_is_missing_is_named(two, folder, tmp_path):
    copy = shutil.copytree(folder / "straight" / "checkpoints", tmp_path / "copy")
    (copy / "ep1-ba6" / "training-00002-of-00002.safetensors").unlink()

    with pytest.raises(CheckpointError, match=r"ep1-ba6/training-00002-of-00002\.safetensors must be there"):
        verify(copy / "ep1-ba6")
    with pytest.warns(UserWarning, match="passed over"):
        assert newest(copy) == copy / "ep1-ba5"


def test_of_replicas_one_writes_and_columns_come_back_as_columns(two, folder):
    first, *_ = ranks.run("sharding", 4, "replicas_of_shards")
    resumed, straight = first["replicas_of_shards"]
    last = checkpoints(folder / "grid" / "checkpoints")[-1]
    weights = read(last).tensors["weights"]

    assert resumed == straight
    assert sum("weights-" in path.name for path in last.iterdir()) == 2
    assert weights["first.weight"].read(torch.empty(6, 3), (0, 3)).equal(weights["first.weight"].whole()[:, 3:])


def test_where_nothing_is_sharded_a_checkpoint_is_as_any_other(two, folder):
    assert not list((folder / "replicated").rglob("*-of-*"))


def test_a_sharded_checkpoint_is_written_byte_for_byte_as_it_was(two, folder):
    kept = Path(__file__).parent / "fixtures" / "sharded-format-1" / "ep1-ba12"

    assert len(list(kept.iterdir())) == 8
    for path in kept.iterdir():
        assert (folder / "ep1-ba12" / path.name).read_bytes() == path.read_bytes()
