"""A run that could not be saved is refused when it is made, not hours later."""

import pytest
import torch
from torch import nn, optim

from cutmix.trainer.checkpoints.snapshot import capture, check_capture
from snapshots import net, trainer


def test_lbfgs_is_refused_by_name():
    model = net()
    refused = trainer(model, optim.LBFGS(model.parameters())).state

    with pytest.raises(TypeError, match=r"optimizers must keep a state of each parameter.*got LBFGS"):
        check_capture(refused)
    with pytest.raises(TypeError, match="LBFGS"):
        capture(refused)


@pytest.mark.parametrize("more", [{"save_interval": "1ep"}, {}])
def test_a_run_that_could_not_be_saved_is_refused_when_it_is_made(more, tmp_path):
    model = net()

    with pytest.raises(TypeError, match=r"LBFGS.*or save nothing: save_interval=None"):
        trainer(model, optim.LBFGS(model.parameters()), save_folder=tmp_path, **more)
    trainer(model, optim.LBFGS(model.parameters()), save_folder=tmp_path, save_interval=None)


def test_an_optimizer_of_parameters_that_nobody_knows_is_refused():
    model = net()
    refused = trainer(model, optim.SGD([*model.parameters(), nn.Parameter(torch.rand(3, 7))], lr=0.1)).state

    with pytest.raises(
        ValueError, match=r"got a SGD with one of shape \(3, 7\) in group 0; make that one of the model"
    ):
        check_capture(refused)
