"""One or two bits a weight: the start has the least error known, and training moves all of it."""

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.methods.precision.binary import Binary
from featherweight.engine.methods.precision.ternary import Ternary
from featherweight.engine.network import capture
from featherweight.engine.recipe import Choice, Recipe, Setting


def bell(rows: int, count: int) -> Tensor:
    return torch.randn(rows, count, generator=torch.Generator().manual_seed(1))


def relative_error(found: Tensor, weight: Tensor) -> float:
    return ((found - weight).square().sum() / weight.square().sum()).item()


@pytest.mark.parametrize(("terms", "least"), [(1, 0.3634), (2, 0.1305), (3, 0.0584)])
def test_that_binary_terms_leave_the_error_known_for_a_bell_curve(terms: int, least: float) -> None:
    # 1 - 2/π for one term; the others integrated numerically over the density.
    weight = bell(1, 400_000)
    form = Binary(terms=terms).trainable(weight, None)
    assert relative_error(form(), weight) == pytest.approx(least, rel=0.02)


def test_that_one_binary_term_is_the_sign_times_the_mean_magnitude_of_the_row() -> None:
    weight = torch.tensor([[1.0, -3.0, 0.0, 4.0], [0.5, 0.5, -0.5, -0.5]])
    form = Binary().trainable(weight, None)
    assert form().tolist() == [[2.0, -2.0, 2.0, 2.0], [0.5, 0.5, -0.5, -0.5]]
    assert form.settled().symbols().values.tolist() == [1, 0, 1, 1, 1, 1, 0, 0]


def test_that_the_least_ternary_error_is_that_of_the_best_of_all_subsets() -> None:
    weight = bell(20, 11)
    found = Ternary().trainable(weight, None)().detach()
    for row, ternary in zip(weight, found, strict=True):
        ordered = row.abs().sort(descending=True).values
        best = min(
            (row.square().sum() - ordered[:kept].sum().square() / kept).item()
            for kept in range(1, 12)
        )
        assert (row - ternary).square().sum().item() == pytest.approx(best, rel=1e-4)


def test_that_a_ternary_bell_curve_has_its_least_error_and_the_usual_rule_nearly_so() -> None:
    # Max (1960), table II: three levels.
    weight = bell(1, 400_000)
    errors = [
        relative_error(Ternary(threshold=rule).trainable(weight, None)(), weight)
        for rule in ("least error", "0.7 of mean")
    ]
    assert errors[0] == pytest.approx(0.1902, rel=0.01)
    assert errors[0] <= errors[1] < 1.02 * errors[0]


def test_that_ternary_rows_scale_by_the_mean_of_what_is_not_zero() -> None:
    weight = torch.tensor([[0.1, -2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    stored = Ternary().trainable(weight, None).settled()
    assert stored().tolist() == [[0.0, -2.5, 2.5, 0.0], [0.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("method", [Binary(), Binary(terms=2), Ternary()], ids=repr)
def test_that_training_changes_signs_and_scales(method: Binary | Ternary) -> None:
    weight, target = bell(4, 60), bell(4, 61)[:, 1:] * 3
    form = method.trainable(weight, None)
    before = form.settled()
    optimizer = torch.optim.Adam(form.parameters(), 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        (form() - target).square().mean().backward()
        optimizer.step()
    after = form.settled()
    assert (before.symbols().values != after.symbols().values).any()
    assert not torch.equal(before.state_dict()["scales"], after.state_dict()["scales"])
    untrained = method.trainable(target, None)()
    assert relative_error(form(), target) < 1.5 * relative_error(untrained, target)


def test_that_binary_weights_and_a_sparsity_exclude_each_other() -> None:
    network = capture(nn.Sequential(nn.Linear(6, 4)).eval(), (torch.zeros(2, 6),))
    choice = Choice(sparsity=Setting("magnitude", {"sparsity": 0.5}), precision=Setting("binary"))
    with pytest.raises(UserError, match="Layer 0 cannot have both a sparsity and this") as caught:
        chosen_methods(network, analyse(network), Recipe(layers={"0": choice}))
    assert "ternary ones can" in caught.value.message


@pytest.mark.parametrize("method", [Binary(), Ternary()], ids=repr)
def test_that_advice_tells_before_the_choice_that_retraining_is_needed(
    method: Binary | Ternary,
) -> None:
    assert "Needs retraining" in method.advice
    assert method.gain == "file"
