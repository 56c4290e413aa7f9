"""What holds for all tests: no deadlines on noisy machines, and one thread a process beside the others."""

import torch
from hypothesis import settings

settings.register_profile("noisy machine", deadline=None)
settings.load_profile("noisy machine")
torch.set_num_threads(1)
