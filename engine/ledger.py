"""The ledger: where every stored bit goes. Its total is the size of the file, to the byte."""

from msgspec import Struct


class Entry(Struct, frozen=True, kw_only=True):
    """The stored bits of one tensor, by kind. `original` is what the tensor took as float32."""

    layer: str
    tensor: str
    original: int
    values: int = 0
    indices: int = 0
    codebooks: int = 0
    scales: int = 0
    tables: int = 0

    @property
    def bits(self) -> int:
        """All stored bits of the tensor."""
        return self.values + self.indices + self.codebooks + self.scales + self.tables


class Ledger(Struct, frozen=True, kw_only=True):
    """All tensors of a network as stored, and what the container adds (header, graph, padding)."""

    entries: tuple[Entry, ...]
    container: int = 0

    @property
    def bits(self) -> int:
        """All stored bits, the container included."""
        return sum(entry.bits for entry in self.entries) + self.container

    @property
    def bytes(self) -> int:
        """All stored bytes; for an archive exactly the size of the file."""
        return -(-self.bits // 8)

    @property
    def original_bits(self) -> int:
        """What all tensors took as float32."""
        return sum(entry.original for entry in self.entries)

    def of_layer(self, layer: str) -> int:
        """Stored bits of one layer, without the container."""
        return sum(entry.bits for entry in self.entries if entry.layer == layer)
