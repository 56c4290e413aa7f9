"""What the triton backend does on a GPU that no interpreter shows."""

import pytest
import torch

pytest.importorskip("triton", reason="the package triton is not installed: make test installs it where there is one")

from cutmix import backends
from cutmix.backends import mix_normalize, reference, triton
from gpus import (
    DEVICE,
    mixed_in_place,
    needs_gpu,
    noise,
    normalized_in_steps,
    plan_of,
    same_bytes,
    waiting_refused,
)
from strategies import numbered

pytestmark = needs_gpu


def test_it_is_chosen_on_a_gpu_unless_a_gradient_is_asked_for():
    images, plan = torch.zeros(2, 1, 3, device=DEVICE), plan_of([1, 0], ([0], [2]), (3,))

    assert backends._candidates(images, plan, None, None) == ["triton"]
    assert backends._candidates(images.requires_grad_(), plan, None, None) == []


@pytest.mark.parametrize("boxes", [1, 512])
def test_a_gpu_is_never_waited_for(boxes):
    images = torch.randn(512, 3, 32, 32, device=DEVICE)
    plan = plan_of([*range(1, 512), 0], ([3, 4], [20, 30]), (32, 32), boxes=boxes)
    triton.mix_images(images, plan)
    triton.mix_images(images, plan, out=images)

    with waiting_refused():
        triton.mix_images(images, plan)
        triton.mix_images(images, plan, out=images)


@pytest.mark.parametrize("batch", [2, 512, 8192])
@pytest.mark.parametrize("per_sample", [False, True])
def test_the_host_goes_on_while_the_gpu_is_busy(batch, per_sample):
    images = torch.zeros(batch, 1, 8, 8, device=DEVICE)
    plan = plan_of([*range(1, batch), 0], ([1, 2], [5, 6]), (8, 8), boxes=batch if per_sample else 1)
    triton.mix_images(images, plan, out=images)
    torch.cuda.synchronize()

    torch.cuda._sleep(200_000_000)  # cycles: a tenth of a second
    triton.mix_images(images, plan, out=images)
    assert not torch.cuda.current_stream().query()
    torch.cuda.synchronize()


@pytest.mark.parametrize("backend", ["auto", "eager", "triton"])
def test_bytes_are_normalized_on_a_gpu_as_on_the_host(backend):
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    plan, out = plan_of([1, 0], ([1, 2], [9, 8]), (16, 16)), torch.empty(images.shape, device=DEVICE)

    mix_normalize(images.to(DEVICE), plan, mean.to(DEVICE), std.to(DEVICE), out=out, backend=backend)
    assert same_bytes(out, reference.mix_images(normalized_in_steps(images, mean, std), plan))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("boxes", [1, 6])
def test_a_captured_graph_mixes_by_the_plan_that_its_memory_holds(boxes, in_place):
    batches = [noise(6, 3, 32, 32), numbered(6, 3, 32, 32, dtype=torch.float32)]
    all_plans = [
        plan_of([1, 2, 3, 4, 5, 0], ([1, 1], [9, 31]), (32, 32), boxes=boxes),
        plan_of([5, 4, 3, 2, 1, 0], ([8, 2], [32, 20]), (32, 32), boxes=boxes, opacity=0.3),
    ]
    plan, images = all_plans[0].to(DEVICE), batches[0].to(DEVICE)
    out = images if in_place else torch.empty_like(images)
    triton.mix_images(images.clone(), plan, out=torch.empty_like(images))  # compiled before it is captured
    warm = images.clone()
    triton.mix_images(warm, plan, out=warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        triton.mix_images(images, plan, out=out)

    for batch, drawn in zip(batches, all_plans, strict=True):
        images.copy_(batch)
        for name in ("partners", "boxes", "opacity"):
            getattr(plan, name).copy_(getattr(drawn, name))
        graph.replay()
        assert same_bytes(out, reference.mix_images(batch, drawn))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("batch", [2, 100, 128, 513, 4096])
def test_large_batches_have_the_bytes_of_the_reference(batch, dtype):
    images = noise(batch, 3, 64, 64, dtype=torch.float32).mul(50).to(dtype)
    partners = torch.randperm(batch, generator=torch.Generator().manual_seed(1)).tolist()
    for boxes in (1, batch):
        plan = plan_of(partners, ([5, 6], [50, 64]), (64, 64), boxes=boxes)
        expected = reference.mix_images(images, plan)
        assert same_bytes(triton.mix_images(images.to(DEVICE), plan), expected)
        assert same_bytes(mixed_in_place(images, plan), expected)
