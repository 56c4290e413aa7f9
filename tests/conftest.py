"""What holds for all tests: no deadlines on noisy machines, one thread a process, Triton's interpreter without a GPU."""

import os

import torch
from hypothesis import settings

settings.register_profile("noisy machine", deadline=None)
settings.load_profile("noisy machine")
torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read once, when triton is imported
