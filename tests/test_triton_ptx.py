"""What the triton kernel becomes on a GPU, read from the code that is compiled for one; none is needed for it."""

import json
import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="the package triton is not installed: make test installs it where there is one")

COMPILED = """
import json, torch, triton
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

def plan(start, opacity):
    return Plan(torch.arange(64).roll(1), fixed(start, [16, 16], 64), torch.tensor([opacity]).double(), (32, 32))

images = torch.zeros(64, 3, 32, 32, dtype=torch.bfloat16)
backend.mix_images(images, plan([1, 2], 1.0), out=images)
backend.mix_images(images, plan([3, 3], 1.0), out=images)
backend.mix_images(images, plan([3, 3], 0.5), out=images)
backend.mix_images(images, plan([3, 3], 1.0), out=torch.empty_like(images))
backend.mix_normalize(images.to(torch.uint8), plan([3, 3], 0.5), torch.zeros(3), torch.ones(3), images)
again, pasted, blended, beside, normalized = kernels
assert again is pasted, "compiled anew for another box"
named = {"pasted": pasted, "blended": blended, "pasted beside": beside, "normalized": normalized}
print(json.dumps({name: one.asm["ptx"] for name, one in named.items()}))
"""


@pytest.fixture(scope="module")
def ptx():
    """What the kernel becomes on a GPU of compute capability 9.0: in place, unless the name says otherwise."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kernel", ["pasted", "blended"])
def test_in_place_all_is_read_before_anything_is_written(ptx, kernel):
    steps = re.findall(r"(ld\.global|bar\.sync|barrier\.sync|st\.global)", ptx[kernel])
    last_read = max(place for place, step in enumerate(steps) if step.startswith("ld"))
    first_write = steps.index("st.global")

    assert {"bar.sync", "barrier.sync"} & set(steps[last_read:first_write])


@pytest.mark.parametrize("kernel", ["pasted", "blended", "normalized"])
def test_nothing_is_fused_and_everything_is_rounded_to_the_nearest(ptx, kernel):
    assert not re.search(r"\bfma\.", ptx[kernel])
    assert not re.search(r"\b(mul|add|sub)\.(ftz\.)?f(32|64)", ptx[kernel])  # without .rn they could still be fused
    assert not re.search(r"\bdiv\.(full|approx)", ptx[kernel])
    assert kernel == "pasted" or re.search(r"cvt\.rn\.bf16", ptx[kernel])


def test_the_compiler_sees_that_columns_are_neighbours_in_memory(ptx):
    assert "st.global.v2.b64" in ptx["pasted beside"]  # two words at a time
