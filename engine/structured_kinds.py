"""The layers of ours that files may name: a new one is one more entry."""

from featherweight.engine.coefficient_layers import (
    SharedBasisConvolution,
    TransformConvolution,
    TransformLinear,
)
from featherweight.engine.copying_layers import CopiedChannels
from featherweight.engine.matrix_convolutions import (
    CirculantConvolution,
    ToeplitzLikeConvolution,
)
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
    CirculantConvolution,
    CirculantLinear,
    CopiedChannels,
    DoublyConvolution,
    MonarchLinear,
    RotatedConvolution,
    SharedBasisConvolution,
    ShiftedConvolution,
    ToeplitzLikeConvolution,
    ToeplitzLikeLinear,
    TransformConvolution,
    TransformLinear,
)
