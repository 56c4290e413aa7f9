"""``compile=True``: the model alone is compiled, once, and trains to the same numbers under the same names."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from cutmix.algorithms import CutMix
from cutmix.trainer import EMA, Trainer
from cutmix.trainer.checkpoints.snapshot import capture, restore

IMAGES = torch.rand(48, 3, 8, 6, generator=torch.Generator().manual_seed(1))
BATCHES = [(images, torch.arange(4) % 4) for images in IMAGES.split(4)]


def network():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


def trainer(**settings):
    torch._dynamo.reset()
    model = network()
    settings = {"optimizers": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), **settings}
    return Trainer(model, BATCHES, BATCHES[:3], 2, CutMix(), device="cpu", seed=3, progress_bar=False, **settings)


def weights(made):
    return [tensor.clone() for tensor in made.state.model.state_dict().values()]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("amp_bf16", 1e-2)])
def test_a_compiled_model_trains_to_the_same_numbers(precision, tolerance):
    eager, compiled = trainer(precision=precision), trainer(compile={"backend": "aot_eager"}, precision=precision)
    for made in (eager, compiled):
        made.fit()

    torch.testing.assert_close(weights(compiled), weights(eager), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(compiled.state.eval_metrics, eager.state.eval_metrics, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore:.torch.jit")  # torch's own, when it loads its compiler
def test_it_is_torch_s_own_compiler_that_compiles_unless_another_is_named():
    eager, compiled = (trainer(compile=how, eval_interval=0) for how in (False, True))
    for made in (eager, compiled):
        made.fit("2ba")

    torch.testing.assert_close(weights(compiled), weights(eager), rtol=1e-5, atol=1e-5)


def test_mixing_stays_outside_so_that_all_boxes_share_a_graph():
    counter = CompileCounterWithBackend("aot_eager")

    trainer(compile={"backend": counter, "fullgraph": True}, callbacks=EMA("5ba")).fit()

    assert counter.frame_count == 2  # one that trains, one that evaluates


def test_a_checkpoint_does_not_know_whether_the_model_was_compiled():
    eager, compiled = trainer(), trainer(compile={"backend": "aot_eager"})
    eager.fit("7ba")
    kept = capture(eager.state)
    restore(kept, compiled.state)
    compiled.fit("1ba")
    eager.fit("1ba")

    assert (
        set(kept.tensors["weights"]) == set(capture(compiled.state).tensors["weights"]) == set(network().state_dict())
    )
    torch.testing.assert_close(weights(compiled), weights(eager), rtol=1e-5, atol=1e-6)


def test_settings_that_torch_does_not_know_are_refused_by_it():
    with pytest.raises(TypeError, match="unexpected keyword argument 'speed'"):
        trainer(compile={"speed": "high"})
