"""What the triton kernel becomes on a GPU, read from the code that is compiled for one; none is needed for it."""

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="the package triton is not installed: make test installs it where there is one")

COMPILED = """
import torch, triton
from triton.backends.compiler import GPUTarget
from cutmix.backends import triton as backend
from cutmix.boxes import fixed
from cutmix.plans import Plan

class Hopper:
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0
    def get_current_target(self): return GPUTarget("cuda", 90, 32)

class Compiled:
    def __getitem__(self, grid):
        return lambda *args, **constants: kernels.append(kernel.warmup(*args, grid=grid, **constants))

triton.runtime.driver.set_active(Hopper())
kernel, kernels = backend.mix, []
backend.mix, backend.INTERPRETED = Compiled(), True
for box, opacity in [([1, 2], 1.0), ([3, 3], 1.0), ([3, 3], 0.5)]:
    plan = Plan(torch.arange(64).roll(1), fixed(box, [16, 16], 64), torch.tensor([opacity]).double(), (32, 32))
    images = torch.zeros(64, 3, 32, 32, dtype=torch.bfloat16)
    backend.mix_images(images, plan, out=images)
backend.mix_normalize(images.to(torch.uint8), plan, torch.zeros(3), torch.ones(3), images)
opaque = Plan(plan.partners, plan.boxes, torch.ones(1).double(), plan.size)
backend.mix_images(images, opaque, out=torch.empty_like(images))
assert kernels[0] is kernels[1], "compiled anew for another box"
for one in kernels[1:]:
    print(one.asm["ptx"], end="<<end>>")
"""


@pytest.fixture(scope="module")
def ptx():
    """What the kernel becomes on a GPU of compute capability 9.0: pasted and blended in place, normalised, and pasted beside."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("<<end>>")[:4]


@pytest.mark.parametrize("kernel", range(2))
def test_in_place_all_is_read_before_anything_is_written(ptx, kernel):
    steps = re.findall(r"(ld\.global|bar\.sync|barrier\.sync|st\.global)", ptx[kernel])
    last_read = max(place for place, step in enumerate(steps) if step.startswith("ld"))
    first_write = steps.index("st.global")

    assert {"bar.sync", "barrier.sync"} & set(steps[last_read:first_write])


@pytest.mark.parametrize("kernel", range(3))
def test_nothing_is_fused_and_everything_is_rounded_to_the_nearest(ptx, kernel):
    assert not re.search(r"\bfma\.", ptx[kernel])
    assert not re.search(r"\b(mul|add|sub)\.(ftz\.)?f(32|64)", ptx[kernel])  # without .rn they could still be fused
    assert not re.search(r"\bdiv\.(full|approx)", ptx[kernel])
    assert kernel == 0 or re.search(r"cvt\.rn\.bf16", ptx[kernel])


def test_threads_side_by_side_take_words_side_by_side(ptx):
    assert "ld.global.b64" in ptx[3]
    assert "st.global.v2.b64" in ptx[3]  # as the compiler does when it sees that two of a thread's words are neighbours
