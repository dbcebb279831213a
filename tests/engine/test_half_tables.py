"""Tables in 16 bits: near at every size, kept to the bit, and refused where they are damaged."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from featherweight.engine.methods.half_tables import as_table, from_table, rounded, unit_of
from featherweight.engine.methods.precision.codebook import Codebook, CodebookForm
from featherweight.engine.weight_forms import Symbols

floats = st.floats(-1.0, 1.0, width=32).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(st.lists(floats, min_size=1, max_size=20), st.integers(-15, 25))
def test_that_a_table_of_any_size_keeps_eleven_bits_and_comes_back_to_the_bit(
    values: list[float], exponent: int
) -> None:
    wanted = torch.tensor(values) * 2.0**exponent
    unit = unit_of(wanted)
    near = rounded(wanted, unit)
    assert bool(((near - wanted).abs() <= wanted.abs() * 2.0**-11).all())
    table = as_table(near, unit)
    assert (table.dtype, table.size) == (np.float16, len(values) + 1)
    again, its_unit = from_table(table)
    assert torch.equal(again, near)
    assert its_unit == unit


@pytest.mark.parametrize("scale", [1e-8, 0.05, 1e5])
@pytest.mark.parametrize("clusters", [2, 16, 256])
def test_that_sixteen_bits_of_a_shared_value_cost_next_to_no_error(
    scale: float, clusters: int
) -> None:
    weight = torch.randn(200, 300, generator=torch.Generator().manual_seed(1)) * scale

    def error(form: Tensor) -> float:
        return float((form.double() - weight.double()).square().mean())

    whole, half = (
        error(Codebook(clusters=clusters, table_bits=bits).trainable(weight, None).settled()())
        for bits in (32, 16)
    )
    assert half < 1.001 * whole


def test_that_what_stays_zero_is_zero_exactly_and_the_rest_may_grow_in_training() -> None:
    weight = torch.randn(40, 30, generator=torch.Generator().manual_seed(2))
    mask = weight.abs() > 1
    form = Codebook(clusters=9).trainable(weight, mask)
    with torch.no_grad():
        dict(form.named_parameters())["codebook"].mul_(20)
        dict(form.named_parameters())["values"].mul_(20)
    stored = form.settled()
    assert torch.equal(stored() != 0, mask)
    torch.testing.assert_close(stored(), form().detach(), rtol=0, atol=0)
    assert float(stored().abs().max()) > 20


@pytest.mark.parametrize("unit", [0.0, -1.0, 3.0, float("inf"), float("nan")])
def test_that_a_unit_that_is_no_power_of_two_is_refused(unit: float) -> None:
    symbols = Symbols(np.zeros(4, np.uint32), 1, None)
    table = np.array([unit, 1.0, 2.0], np.float16)
    with pytest.raises(ValueError, match="unit"):
        CodebookForm.rebuilt((4,), symbols, {"codebooks": table})
    with pytest.raises(ValueError, match="unit"):
        CodebookForm.rebuilt((4,), symbols, {"codebooks": table[:0]})
