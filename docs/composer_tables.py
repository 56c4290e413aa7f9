"""Write the tables of ``composer.md`` from Composer's signatures and ours: ``python docs/composer_tables.py``."""

import json
from pathlib import Path
from typing import Literal

from cutmix import algorithms
from cutmix.core import Event
from cutmix.trainer import Trainer
from cutmix.trainer.composer.arguments import LEFT_OUT, METHODS, RENAMED, VALUES, arguments_of
from marks import between_marks

PAGE = Path(__file__).with_name("composer.md")
SAVED = Path(__file__).with_name("composer_signatures.json")
ALGORITHMS = ("CutMix", "MixUp", "CutOut", "LabelSmoothing")
SAME = {
    "model": "an `nn.Module` called as `model(images)` too, with `loss_fn` and `metrics` of the Trainer's",
    "train_dataloader": "no `DataSpec`; also a function that makes an iterable for each epoch",
    "max_duration": "`'1ep'` when left out; a run may go on, `fit(duration=...)`",
    "optimizers": "one or several; `AdamW(lr=1e-3)` when left out, there `DecoupledSGDW`",
    "schedulers": "torch's, or `CosineWithWarmup`",
    "step_schedulers_every_batch": "`False` when left out; `CosineWithWarmup` goes by the clock anyway",
    "eval_dataloader": "several by name, `{'val': loader}`, with settings of their own in an `Evaluator`",
    "eval_interval": "no function",
    "eval_subset_num_batches": "of all processes together, there of each",
    "callbacks": "of `cutmix.core.Callback`",
    "loggers": "of `cutmix.core.Logger`; figures also go to `metrics.jsonl` in `save_folder`",
    "load_path": "a folder here: a checkpoint, or a run's `save_folder`",
    "save_folder": "no format string and no address",
    "save_interval": "`'10min'` too; no function",
    "autoresume": "needs `save_folder` only",
    "device": "`'cpu'`, `'gpu'`, `'mps'` or a `torch.device`",
    "precision": "`'fp32'`, `'amp_bf16'` or `'amp_fp16'`; `'fp32'` when left out",
    "device_train_microbatch_size": "batches are mixed before they are cut",
    "seed": "`torch.initial_seed()` when left out; a run repeats to the bit",
}
"""What differs in an argument that has the same name."""

Where = Literal["same", "renamed", "left out"]


def where(name: str) -> Where:
    """Tell where an argument of Composer's Trainer went."""
    found: dict[Where, bool] = {
        "same": name in arguments_of(Trainer),
        "renamed": name in RENAMED,
        "left out": name in LEFT_OUT,
    }
    (only,) = (place for place, is_there in found.items() if is_there)
    return only


def trainer_table() -> str:
    """Return where each argument of Composer's Trainer went, and why."""
    saved = read()["signatures"]["Trainer"]["arguments"]
    rows = {name: _row(name) for name in saved}
    return table(
        ["Composer", "default there", "here", ""], [[f"`{name}`", f"`{saved[name]}`", *rows[name]] for name in rows]
    )


def _row(name: str) -> tuple[str, str]:
    match where(name):
        case "same":
            others = [f"no `{value!r}`: {why}" for value, why in VALUES.get(name, {}).items()]
            return f"`{name}`", "; ".join([*others, *filter(None, [SAME.get(name)])])
        case "renamed":
            return f"`{RENAMED[name][0]}`", RENAMED[name][1]
        case "left out":
            return "left out", LEFT_OUT[name]


def more_sentence() -> str:
    """Return which arguments our Trainer has that Composer's has not."""
    known = {*read()["signatures"]["Trainer"]["arguments"], *(here for here, _ in RENAMED.values())}
    return f"And here alone: {listed(name for name in arguments_of(Trainer) if name not in known)}."


def algorithms_table() -> str:
    """Return which arguments the algorithms share, and which one side has alone."""
    rows = []
    for name in ALGORITHMS:
        theirs = read()["signatures"][name]["arguments"]
        ours = arguments_of(getattr(algorithms, name))
        rows.append(
            [
                f"`{name}`",
                listed(argument for argument in theirs if argument in ours),
                listed(argument for argument in theirs if argument not in ours),
                listed(argument for argument in ours if argument not in theirs),
            ]
        )
    return table(["", "same", "there alone", "here alone"], rows)


def methods_table() -> str:
    """Return what a Trainer has in Composer alone, and what to do instead."""
    return table(["Composer alone", "here"], [[f"`trainer.{name}`", instead] for name, instead in METHODS.items()])


def events_sentence() -> str:
    """Return which moments both have, and which Composer has alone."""
    theirs, ours = read()["events"], [event.name for event in Event]
    both = [name for name in ours if name in theirs]
    alone = [name for name in theirs if name not in ours]
    return f"All {len(both)} moments here have Composer's names. Composer alone has {listed(alone)}."


def source_sentence() -> str:
    """Return what was read."""
    saved = read()
    address = saved["source"] + saved["signatures"]["Trainer"]["path"]
    return f"Read from Composer {saved['version']}: [its Trainer]({address})."


def listed(names: object) -> str:
    """Return names, as code."""
    return ", ".join(f"`{name}`" for name in names)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table of words."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def read() -> dict:
    """Read Composer's signatures."""
    return json.loads(SAVED.read_text(encoding="utf-8"))


def rewritten(page: str) -> str:
    """Return the page with what stands between its marks written anew."""
    parts = {
        "source": source_sentence,
        "trainer": trainer_table,
        "more": more_sentence,
        "algorithms": algorithms_table,
        "methods": methods_table,
        "events": events_sentence,
    }
    return between_marks(page, parts)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
