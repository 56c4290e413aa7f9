"""A mixed target and its losses are one graph, whatever is kept."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F

from cutmix.losses import cross_entropy, mixed
from cutmix.mixing import mix_by_mask
from cutmix.targets import MixedTarget

BY_HEAD = mixed(lambda outputs, target: sum(F.cross_entropy(outputs, target[head]) for head in "ab"))
LOSSES = {
    "function": F.cross_entropy,
    "module": nn.CrossEntropyLoss(weight=torch.rand(5)),
    "our own": lambda outputs, target: cross_entropy(outputs, target, label_smoothing=0.1, ignore_index=2),
    "likelihoods": lambda outputs, target: F.nll_loss(outputs.log_softmax(1), target),
    "rows": mixed(F.binary_cross_entropy_with_logits),
    "interpolated": mixed(lambda o, y: F.multi_margin_loss(o, y, reduction="none"), interpolate=True, reduction="mean"),
    "heads": lambda outputs, target: BY_HEAD(outputs, {"a": target, "b": target}),
}


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("loss_fn", LOSSES.values(), ids=LOSSES)
def test_a_loss_of_mixed_labels_is_compiled_once(loss_fn, each):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model, images, ids = nn.Linear(8, 5), torch.randn(6, 8), torch.randint(5, (2, 6))

    def loss_of(images, own, partner, kept):
        return loss_fn(model(images), MixedTarget(own, partner, kept))

    step = torch.compile(loss_of, fullgraph=True, backend=counter)
    for _ in range(5):
        kept = torch.rand(6 if each else 1, dtype=torch.float64).expand(6)
        loss = step(images, *ids, kept)
        loss.backward()
        torch.testing.assert_close(loss, loss_of(images, *ids, kept))
    assert counter.frame_count == 1


def test_a_shape_of_any_form_is_shown_inside():
    torch._dynamo.reset()
    images, mask = {"x": torch.rand(3, 2, 4, 6)}, torch.rand(1, 4, 6) < 0.5
    arguments = images, (torch.arange(3), torch.rand(3, 4, 6)), mask, torch.tensor([1, 2, 0])

    compiled = torch.compile(mix_by_mask, fullgraph=True, backend="aot_eager")(*arguments)
    expected = mix_by_mask(*arguments)
    assert torch.equal(compiled[0]["x"], expected[0]["x"])
    assert torch.equal(compiled[1][0].kept, expected[1][0].kept)
    assert torch.equal(compiled[1][1], expected[1][1])
