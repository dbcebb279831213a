"""A linear layer of Hadamard matrices and diagonals: plain torch, so that every exporter follows.

The source of the class is also written into Python files that rebuild a network, so it uses nothing
but torch.
"""

import torch
from torch import nn

from featherweight.engine.structured_layers import StructuredLayer


class FastfoodLinear(StructuredLayer):
    """A linear layer of blocks S·H·G·Π·H·B, each of the next power of two, d, above the inputs.

    H is the Hadamard matrix over √d and Π an order of places that follows from `seed`: neither is
    held. The diagonals are rows: `first` (B) is blocks by inputs, `middle` (G) blocks by d, and
    `last` (S) terms by outputs. As many blocks as the outputs fill make a term, and `terms` of
    them are added up.
    """

    options = ("in_features", "out_features", "terms", "seed", "bias")

    def __init__(
        self, in_features: int, out_features: int, terms: int = 1, seed: int = 0, bias: bool = True
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.terms, self.seed = terms, seed
        bits = max(in_features - 1, 1).bit_length()
        # Rows and columns of the grid on which a product with H is two with smaller ones.
        self.rows, self.columns = 1 << bits // 2, 1 << (bits + 1) // 2
        self.side = 1 << bits
        self.blocks = terms * -(-out_features // self.side)
        self.first = nn.Parameter(torch.zeros(self.blocks, in_features))
        self.middle = nn.Parameter(torch.zeros(self.blocks, self.side))
        self.last = nn.Parameter(torch.zeros(terms, out_features))
        self._add_bias(bias)

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return the sum of all terms, each with two products with the Hadamard matrix."""
        held = x.reshape(-1, 1, self.in_features) * tensors["first"]
        held = self.hadamard(nn.functional.pad(held, (0, self.side - self.in_features)))
        held = held.reshape(-1, self.blocks * self.side).index_select(1, self.order(x))
        held = held.reshape(-1, self.blocks, self.side) * tensors["middle"]
        made = self.hadamard(held).reshape(-1, self.terms, self.blocks // self.terms * self.side)
        made = (made[:, :, : self.out_features] * tensors["last"]).sum(1)
        made = made.reshape((*x.shape[:-1], self.out_features))
        return made + tensors["bias"] if "bias" in tensors else made

    def hadamard(self, x: torch.Tensor) -> torch.Tensor:
        """Return H·x along the last dimension, which has d places."""
        grid = x.reshape(-1, self.rows, self.columns)
        made = torch.matmul(self._signs(self.rows, x), grid)
        return torch.matmul(made, self._signs(self.columns, x)).reshape(x.shape)

    def order(self, like: torch.Tensor) -> torch.Tensor:
        """Return where each place of all blocks comes from.

        In each block a place is taken three times an odd factor and a sum modulo d, and after each
        it is read as a place on the grid and written by columns.
        """
        places = torch.arange(self.side, device=like.device)[None]
        state = self.seed
        for _ in range(3):
            numbers = []
            for _block in range(self.blocks):
                # The constants of a known generator (Knuth, MMIX).
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                numbers.append([(state >> 32) % self.side | 1, (state >> 48) % self.side])
            drawn = torch.tensor(numbers, device=like.device)
            places = (places * drawn[:, :1] + drawn[:, 1:]) % self.side
            column = places % self.columns
            places = column * self.rows + (places - column) // self.columns
        starts = torch.arange(self.blocks, device=like.device)[:, None] * self.side
        return (places + starts).reshape(-1)

    def products(self) -> int:
        """Return those of the small Hadamard matrices; diagonals count as little as norms."""
        return 2 * self.blocks * self.side * (self.rows + self.columns)

    @staticmethod
    def _signs(side: int, like: torch.Tensor) -> torch.Tensor:
        """Return the Hadamard matrix of a side over its root, made by doubling alone."""
        matrix = torch.full((1, 1), side**-0.5, dtype=like.dtype, device=like.device)
        while len(matrix) < side:
            above = torch.cat([matrix, matrix], 1)
            matrix = torch.cat([above, torch.cat([matrix, -matrix], 1)])
        return matrix
