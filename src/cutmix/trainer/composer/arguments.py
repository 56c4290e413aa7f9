"""The arguments and methods of Composer's Trainer that this one calls by another name or does without, and why."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RENAMED = {
    "compile_config": ("compile", "True, or a dict of torch.compile's settings, as there"),
    "parallelism_config": ("parallelism", "'ddp', 'fsdp', or a function of the model for what else you want"),
}
"""The name here, and how its values translate."""

LEFT_OUT = {
    "accumulate_train_batch_on_tokens": "microbatches are weighted by samples; where the loss counts tokens, use none",
    "algorithm_passes": "algorithms act in the order in which they are given; put them in yours",
    "auto_log_hparams": "hand the settings to the logger that is to show them, such as WandB(config={...})",
    "console_log_interval": "the progress bar shows the figures as they come; write a cutmix.core.Logger that prints",
    "console_stream": "the progress bar goes to stderr; write a cutmix.core.Logger that prints",
    "ddp_sync_strategy": "gradients are averaged once a step; pass a function, parallelism=..., that wraps the model",
    "dist_timeout": "it is the process group's; call torch.distributed.init_process_group before the Trainer is made",
    "load_exclude_algorithms": "a checkpoint brings no algorithms along; those that are handed in act",
    "load_ignore_keys": "a checkpoint is restored whole; cutmix.trainer.load_weights takes the weights alone",
    "load_object_store": "checkpoints are folders; copy the one to load_path from the store first",
    "load_progress_bar": "nothing is downloaded, load_path is a folder",
    "load_strict_model_weights": "a run goes on with all its weights; load_weights(model, path, strict=False) is lax",
    "load_weights_only": "load_path resumes a run; cutmix.trainer.load_weights(model, path) takes the weights alone",
    "log_to_console": "the progress bar shows the figures; write a cutmix.core.Logger that prints",
    "log_traces": "algorithms leave no traces; a callback sees what they did to the state",
    "precision_config": "it sets 8-bit floats, which no precision here computes in; leave it out",
    "profiler": "torch.profiler.profile() around trainer.fit() sees all; step it in a callback's batch_end",
    "python_log_level": "nothing is told through Python's logging; progress_bar says what was chosen",
    "run_name": "a run is its save_folder; name that",
    "save_filename": "checkpoints are folders named by where the run is, such as ep1-ba500",
    "save_ignore_keys": "a checkpoint always resumes the run exactly, so that nothing may be missing",
    "save_latest_filename": "autoresume takes the newest checkpoint that verifies, without a link to it",
    "save_metrics": "metrics that are in the midst of an epoch are always saved, or a resume would not be exact",
    "save_overwrite": "what another run has written stays; name another save_folder, or move the old one away",
    "save_weights_only": "a checkpoint always resumes; its weights lie in a file of their own, weights.safetensors",
    "scale_schedule_ratio": "make max_duration and the schedule as long as you want them",
    "spin_dataloaders": "a resume goes on with the very next sample, and fetches none of those before where it can",
    "train_dataloader_label": "figures of training are always called train/...",
}
"""Why each is not taken, and what to do instead."""

VALUES = {
    "device_train_microbatch_size": {
        "auto": "what fits depends on the machine, and a run must repeat; name the largest that fits",
    },
}
"""Values that are not taken of arguments that are."""

METHODS = {
    "predict": "call the model, trainer.state.model(images), after its .eval() and under torch.no_grad()",
    "export_for_inference": "torch.export takes the model",
    "saved_checkpoints": "they are the folders in save_folder/checkpoints; the best of them is trainer.best_checkpoint",
    "save_checkpoint_to_save_folder": "trainer.save_checkpoint() writes there",
}
"""What to do instead of what a Trainer has there alone."""


def refuse(given: Mapping[str, object], taker: type) -> None:
    """Refuse arguments that ``taker`` does not have: Composer's with the reason, others with the nearest it has."""
    for name, value in given.items():
        if name in RENAMED:
            here, how = RENAMED[name]
            raise TypeError(f"{name} is Composer's, got {value!r}; it is called {here} here: {how}")
        if name in LEFT_OUT:
            raise TypeError(f"{name} is Composer's and must be left out, got {value!r}: {LEFT_OUT[name]}")
        nearest = get_close_matches(name, arguments_of(taker), n=1, cutoff=0.0)[0]
        raise TypeError(f"{taker.__name__} takes no argument {name!r}, got {value!r}; did you mean {nearest!r}?")


def refuse_values(**given: object) -> None:
    """Refuse what Composer's arguments of the same name may be, and these may not."""
    for name, value in given.items():
        if isinstance(value, str) and value in VALUES[name]:
            raise ValueError(f"{name} must not be {value!r} here, as Composer's may: {VALUES[name][value]}")


def missing(name: str, owner: object) -> AttributeError:
    """Return what to raise for an attribute that ``owner`` does not have: of Composer's it says what to do instead."""
    if name in METHODS:
        return AttributeError(f"{name} is Composer's and is not there: {METHODS[name]}")
    return AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}", name=name, obj=owner)


def arguments_of(taker: type) -> list[str]:
    """List the names that ``taker`` is made with."""
    return [
        name
        for name, parameter in inspect.signature(taker).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
