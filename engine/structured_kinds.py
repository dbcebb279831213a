"""The layers of ours that files may name: a new one is one more entry."""

from featherweight.engine.copying_layers import CopiedChannels
from featherweight.engine.structured_layers import (
    CirculantLinear,
    MonarchLinear,
    StructuredLayer,
    ToeplitzLikeLinear,
)
from featherweight.engine.transformed_layers import (
    DoublyConvolution,
    RotatedConvolution,
    ShiftedConvolution,
)

STRUCTURED: tuple[type[StructuredLayer], ...] = (
    CirculantLinear,
    CopiedChannels,
    DoublyConvolution,
    MonarchLinear,
    RotatedConvolution,
    ShiftedConvolution,
    ToeplitzLikeLinear,
)
