"""Blocks of rows share columns: planted ones are found, the best are kept, files hold them all."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.column_layers import ColumnBlocks
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.evidence import Evidence, InputMoments
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.methods.structure.column_blocks import ColumnBlockPruning
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Export
from featherweight.engine.weight_forms import settle

LAYERS: list[tuple[nn.Module, Tensor]] = [
    (nn.Linear(40, 24), torch.randn(3, 2, 40)),
    (nn.Linear(300, 20, bias=False), torch.randn(300)),
    (nn.Conv2d(16, 24, 1, stride=2), torch.randn(2, 16, 7, 6)),
    (nn.Conv1d(16, 12, 1, padding=1, bias=False), torch.randn(2, 16, 9)),
]


def planted(layer: nn.Module, height: int, kept: int) -> list[Tensor]:
    """Leave every block of rows so many columns, and return which."""
    weight = layer.get_parameter("weight")
    columns = []
    for block in weight.data.split(height):
        columns.append(torch.randperm(weight.shape[1])[:kept].sort().values)
        gone = torch.ones(weight.shape[1], dtype=torch.bool)
        gone[columns[-1]] = False
        block[:, gone] = 0.0
    return columns


def measured(inputs: Tensor) -> dict[str, Evidence]:
    moments = InputMoments(1, ((inputs.T @ inputs / len(inputs))[None],), inputs.mean(0)[None])
    return {"weight": Evidence(moments)}


def correlated(rows: int, columns: int) -> Tensor:
    hidden = torch.randn(rows, columns // 3)
    return hidden @ torch.randn(columns // 3, columns) + 0.3 * torch.randn(rows, columns) + 0.5


@pytest.mark.parametrize(("layer", "x"), LAYERS)
def test_that_planted_columns_are_found_and_all_others_are_gone(
    layer: nn.Module, x: Tensor
) -> None:
    torch.manual_seed(1)
    columns = planted(layer, 4, 4)
    keep = 4 / layer.get_parameter("weight").shape[1]
    method = ColumnBlockPruning(keep=keep, height=4)
    chain = method.rewritten(layer)
    (table,) = chain.buffers()
    assert table.dtype == (torch.int16 if len(x) == 300 else torch.uint8)
    assert table.tolist() == torch.cat(columns).tolist()
    held = [value for value in chain.parameters() if value.ndim > 1]
    assert sum(value.numel() for value in held) == 4 * len(layer.get_parameter("weight"))
    torch.testing.assert_close(chain(x), layer(x), rtol=1e-5, atol=1e-5)
    shapes = [
        {name: (value.shape, value.dtype) for name, value in each.state_dict().items()}
        for each in (method.skeleton(layer), chain)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("bias", [True, False])
def test_that_by_outputs_the_weights_are_the_least_squares_answer_of_their_columns(
    bias: bool,
) -> None:
    torch.manual_seed(2)
    layer, x = nn.Linear(30, 8, bias=bias), correlated(4000, 30)
    method = ColumnBlockPruning(keep=0.3, height=4, metric="outputs")
    assert method.needs() == {"moments"}
    chain = method.informed(layer, measured(x))
    blocks = chain[0]
    assert isinstance(blocks, ColumnBlocks)
    with torch.no_grad():
        wanted, made = layer(x).double(), chain(x).double()
        plain = method.rewritten(layer)(x).double()
    for at, columns in enumerate(blocks.get_buffer("columns").long().chunk(2)):
        seen = x[:, columns].double()
        seen = torch.cat([seen, torch.ones(len(seen), 1)], 1) if bias else seen
        rows = slice(4 * at, 4 * at + 4)
        best = seen @ torch.linalg.lstsq(seen, wanted[:, rows]).solution
        least = float((best - wanted[:, rows]).square().mean())
        assert float((made - wanted)[:, rows].square().mean()) < 1.02 * least
    assert float((made - wanted).square().mean()) < 0.3 * float((plain - wanted).square().mean())


def test_that_by_outputs_of_inputs_that_say_the_same_one_of_each_pair_is_enough() -> None:
    torch.manual_seed(3)
    half = torch.randn(2000, 10)
    layer, x = nn.Linear(20, 12), torch.cat([half, 2 * half], 1)
    chain = ColumnBlockPruning(keep=0.5, height=4, metric="outputs").informed(layer, measured(x))
    columns = chain[0].get_buffer("columns").long().reshape(3, 10) % 10
    assert all(sorted(block.tolist()) == list(range(10)) for block in columns)
    torch.testing.assert_close(chain(x), layer(x), rtol=1e-2, atol=1e-2)


def test_that_outputs_fall_into_blocks_of_equal_height_near_what_is_asked() -> None:
    for outputs, height, blocks in ((300, 256, 2), (10, 256, 1), (1000, 128, 8), (131, 64, 1)):
        (layer,) = ColumnBlockPruning(height=height).skeleton(nn.Linear(16, outputs))
        assert isinstance(layer, ColumnBlocks)
        assert layer.blocks == blocks


@pytest.mark.parametrize(
    ("layer", "word"),
    [
        (nn.Conv2d(16, 16, 3), "only those of 1×1"),
        (nn.Conv2d(16, 16, 1, groups=2), "in groups"),
        (nn.Linear(7, 16), "only 7 inputs"),
        (nn.Embedding(16, 16), "linear layers"),
        (nn.ConvTranspose2d(16, 16, 1), "linear layers"),
    ],
)
def test_that_a_layer_without_columns_to_leave_out_is_locked(layer: nn.Module, word: str) -> None:
    assert word in ColumnBlockPruning.lock(layer)


class Small(nn.Module):
    """A convolution of 1×1 and two linear layers, the first on rows of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 24, 1)
        self.tokens = nn.Linear(24, 300)
        self.fc = nn.Linear(300, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().flatten(2).transpose(1, 2)
        result: Tensor = self.fc(self.tokens(x).relu().mean(1))
        return result


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(3)
    return capture(Small().eval(), (torch.randn(2, 16, 4, 4),))


def test_that_column_blocks_go_into_every_file_and_back(
    network: Network, tmp_path: Path, in_every_file: Callable[..., dict[str, Export]]
) -> None:
    blocks = Setting("column_blocks", {"keep": 0.5, "height": 12})
    integers = Setting("integer", {"bits": 4})
    recipe = Recipe(
        layers={
            "conv": Choice(structure=blocks, precision=integers),
            "tokens": Choice(structure=blocks),
            "fc": Choice(structure=blocks, sparsity=Setting("magnitude"), precision=integers),
        }
    )
    coupling = analyse(network)
    chosen = chosen_methods(network, coupling, recipe)
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    settle(made)
    inputs = torch.randn(3, 16, 4, 4)
    in_every_file(made, codings(made, chosen), tmp_path, (inputs,), network)
