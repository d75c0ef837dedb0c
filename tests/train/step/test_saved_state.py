"""The saved state of an optimiser. Oracle: the state that PyTorch's own optimiser returns."""

import copy

import pytest
import torch

from train.step.saved_state import check_saved_state
from vgg_deploy.errors import InputError


def state(steps: int) -> dict:
    weights = torch.nn.Parameter(torch.ones(2, 3))
    optimiser = torch.optim.SGD([{"params": [weights], "rate": 1.0}], lr=0.1, momentum=0.9)
    optimiser.state[weights]["momentum_buffer"] = torch.zeros_like(weights)
    for _ in range(steps):
        weights.sum().backward()
        optimiser.step()
    return {"optimiser": optimiser.state_dict(), "scaler": {"scale": 65536.0, "_growth_tracker": 0}}


def set_at(tree, path, value):
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


BUFFER = ("optimiser", "state", 0, "momentum_buffer")
GROUP = ("optimiser", "param_groups", 0)
DAMAGE = [
    (("optimiser",), None),
    (("optimiser", "state"), []),
    (("optimiser", "state"), {}),
    (BUFFER, "x"),
    (BUFFER, torch.zeros(3, 2)),
    (BUFFER, torch.zeros(2, 3, dtype=torch.float64)),
    (BUFFER, torch.zeros(2, 3).to_sparse()),
    (BUFFER, torch.zeros(2, 3, device="meta")),
    (("optimiser", "param_groups"), {}),
    (("optimiser", "param_groups"), []),
    ((*GROUP, "lr"), "0.1"),
    ((*GROUP, "lr"), float("nan")),
    ((*GROUP, "rate"), None),
    ((*GROUP, "params"), [0, 1]),
    ((*GROUP, "nesterov"), 1),
    (("scaler",), 5),
    (("scaler", "scale"), None),
    (("scaler", "_growth_tracker"), float("inf")),
]


def test_a_state_of_the_same_run_fits():
    check_saved_state(state(3), state(0))
    older = state(1)
    del older["optimiser"]["param_groups"][0]["fused"]
    check_saved_state(older | {"step": 3}, state(0))


@pytest.mark.parametrize(("path", "value"), DAMAGE)
def test_another_type_or_shape_is_refused(path, value):
    damaged = copy.deepcopy(state(1))
    set_at(damaged, path, value)
    with pytest.raises(InputError, match="training state is damaged at " + path[0]):
        check_saved_state(damaged, state(0))
