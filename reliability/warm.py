"""What a first step imports, imported before the harness forks."""

import torch
import torch._dynamo  # for the first optimizer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cutmix import CutMix
from reliability import job

torch.set_num_threads(1)
CutMix()(torch.rand(job.BATCH, 3, 8, 6), torch.zeros(job.BATCH, dtype=torch.int64))
torch.optim.AdamW(nn.Linear(1, 1).parameters())
next(iter(DataLoader(TensorDataset(torch.zeros(1)))))
