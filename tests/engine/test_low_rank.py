"""Leading vectors of wide matrices are searched for, and hold what the exact ones hold."""

import pytest
import torch

from featherweight.engine.errors import CancelledError
from featherweight.engine.jobs import Job
from featherweight.engine.methods.low_rank import WIDE, factors

SIDE, RANK = WIDE + 76, 40
FALLS = {
    "flat": torch.ones(SIDE),
    "slow": 1 / torch.arange(1, SIDE + 1),
    "steep": torch.exp(-torch.arange(SIDE) / 8),
    "to nothing": (torch.arange(SIDE) < 5).float(),
    "nothing": torch.zeros(SIDE),
}


@pytest.mark.parametrize("fall", FALLS)
def test_that_a_searched_approximation_is_as_near_as_the_best(fall: str) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(SIDE, SIDE) * FALLS[fall] @ torch.randn(SIDE, SIDE + 200)
    left, right = factors(matrix, RANK)
    exact = matrix.double()
    error = (exact - left @ right).square().sum()
    values = torch.linalg.svdvals(exact)
    energy = values.square().sum()
    assert float(error - values[RANK:].square().sum()) <= 1e-4 * float(energy)
    again = factors(matrix, RANK)
    assert torch.equal(left, again[0])
    assert torch.equal(right, again[1])


def test_that_a_search_can_be_stopped() -> None:
    job = Job()
    job.cancel()
    with pytest.raises(CancelledError):
        factors(torch.randn(SIDE, SIDE), RANK, job.check)
