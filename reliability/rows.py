"""The checks, with how often each is tried."""

from reliability import damage, enduring, killing, refusals, signalling
from reliability.checking import Check

GOES_ON = "started again, it ends with the same digest, no step logged twice"
BY_ITSELF = "comes back by itself within 60 s, and ends with the same digest, no step logged twice"
CHECKS = (
    Check("kill -9 at a random step, workers alive", 50, GOES_ON, killing.at_a_step),
    Check(
        "kill -9 inside a checkpoint write: at a byte, before or after an fsync or a move",
        50,
        f"the checkpoint before loads; {GOES_ON}; no stray is left",
        killing.inside_a_write,
    ),
    Check(
        "each file of a checkpoint cut at 0, 1, half, size - 1",
        4,
        "refused by name; the one before is used, with a warning, to the same digest",
        damage.cut,
    ),
    Check("one bit flipped", 200, "refused by name; the one before is used, with a warning", damage.flip),
    Check("kill -9 of rank 1 of 2, with restarts", 10, BY_ITSELF, killing.rank_with_restarts(1)),
    Check("kill -9 of rank 0 of 2, with restarts", 10, BY_ITSELF, killing.rank_with_restarts(0)),
    Check(
        "kill -9 of either rank of 2, without restarts",
        10,
        "every process is gone within 30 s, with an exit code",
        killing.rank_without_restarts,
    ),
    Check(
        "disk full, folder read-only, path too long, a file in the way",
        len(refusals.UNWRITABLE),
        "a clear error, with the bytes needed and free; earlier checkpoints are intact",
        refusals.unwritable,
    ),
    Check("SIGTERM", 20, f"a checkpoint after the step at hand, then 143; {GOES_ON}", signalling.sigterm),
    Check("SIGTERM to one rank of 2", 2, "both end after one step, the same", signalling.sigterm_to_one_rank),
    Check("SIGINT once", 10, f"a checkpoint after the step at hand, then 130; {GOES_ON}", signalling.sigint),
    Check("SIGINT twice", 5, "at once, without another checkpoint", signalling.sigint_twice),
    Check(
        "malicious pickle, tar, npy, and in the place of a checkpoint's files",
        len(damage.MALICIOUS),
        "refused; nothing in it is run",
        damage.malicious,
    ),
    Check(
        "missing or extra key, other shape, newer format, other number of processes, other seed",
        len(damage.OTHERS),
        "the difference is named; the model in memory is unchanged",
        damage.of_another_run,
    ),
    Check(
        "two trainers on one folder",
        5,
        "the second is refused, the first named: host, process, since when; it ends with the same digest",
        refusals.two_trainers,
    ),
    Check(
        "loss not finite",
        5,
        "stops within two steps, 70 by the command line; step, rate, box, weight and samples named; no such checkpoint",
        enduring.not_finite,
    ),
    Check(
        f"{enduring.STEPS:,} steps of a small net",
        1,
        "memory grows by less than 1 MB in 10,000 steps; open files and threads do not",
        enduring.long_run,
    ),
)
