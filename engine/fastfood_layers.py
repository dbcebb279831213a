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
        middle = tensors["middle"]
        # What is made of a held tensor is worked out where a file is loaded, and takes no room
        # in it as a table.
        true = (middle == middle) | (middle != middle)
        signs = self.signs(true[:1, :1].to(x.dtype))
        held = x.reshape(-1, 1, self.in_features) * tensors["first"]
        held = nn.functional.pad(held, (0, self.side - self.in_features))
        held = self.hadamard(held, signs).reshape(-1, self.blocks * self.side)
        held = held.index_select(1, self.order(true)).reshape(-1, self.blocks, self.side)
        made = self.hadamard(held * middle, signs)
        made = made.reshape(-1, self.terms, self.blocks // self.terms * self.side)
        made = (made[:, :, : self.out_features] * tensors["last"]).sum(1)
        made = made.reshape((*x.shape[:-1], self.out_features))
        return made + tensors["bias"] if "bias" in tensors else made

    def hadamard(self, x: torch.Tensor, signs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return H·x along the last dimension, which has d places."""
        grid = x.reshape(-1, self.rows, self.columns)
        return torch.matmul(torch.matmul(signs[0], grid), signs[1]).reshape(x.shape)

    def signs(self, one: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the Hadamard matrices along both sides of the grid, of a one, 1×1."""
        found = []
        for side in (self.rows, self.columns):
            matrix = one * side**-0.5
            while matrix.shape[0] < side:
                above = torch.cat([matrix, matrix], 1)
                matrix = torch.cat([above, torch.cat([matrix, -matrix], 1)])
            found.append(matrix)
        return found[0], found[1]

    def order(self, true: torch.Tensor) -> torch.Tensor:
        """Return where each place of all blocks comes from; `true` is blocks by d, and true.

        In each block a place goes three times through a quadratic polynomial that is a permutation
        modulo d (Rivest 2001), and after each it is read along the grid and written across it.
        """
        places = true.long().cumsum(1) - 1
        state = self.seed
        for _ in range(3):
            numbers = []
            for _block in range(self.blocks):
                # The constants of a known generator (Knuth, MMIX).
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                numbers.append([state >> 24 & -2, state >> 32 | 1, state >> 48])
            drawn = torch.tensor(numbers, device=true.device) % self.side
            places = (drawn[:, :1] * places + drawn[:, 1:2]) % self.side * places
            places = (places + drawn[:, 2:]) % self.side
            column = places % self.columns
            places = column * self.rows + (places - column) // self.columns
        blocks = true[:, :1].long().cumsum(0) - 1
        return (places + blocks * self.side).reshape(-1)

    def products(self) -> int:
        """Return those of the small Hadamard matrices; diagonals count as little as norms."""
        return 2 * self.blocks * self.side * (self.rows + self.columns)
