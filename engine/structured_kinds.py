"""The layers of ours that files may name: a new one is one more entry."""

from featherweight.engine.binary_layers import BinaryInputs
from featherweight.engine.coefficient_layers import (
    SharedBasisConvolution,
    TransformConvolution,
    TransformLinear,
)
from featherweight.engine.column_layers import ColumnBlocks
from featherweight.engine.compact_layers import CentredPlaces, FireExpansion, GroupedLinear
from featherweight.engine.copying_layers import ChosenChannels, CopiedChannels
from featherweight.engine.fastfood_layers import FastfoodLinear
from featherweight.engine.matrix_convolutions import (
    CirculantConvolution,
    ToeplitzLikeConvolution,
)
from featherweight.engine.rounded_layers import RoundedActivation
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
    BinaryInputs,
    CentredPlaces,
    ChosenChannels,
    CirculantConvolution,
    CirculantLinear,
    ColumnBlocks,
    CopiedChannels,
    DoublyConvolution,
    FastfoodLinear,
    FireExpansion,
    GroupedLinear,
    MonarchLinear,
    RotatedConvolution,
    RoundedActivation,
    SharedBasisConvolution,
    ShiftedConvolution,
    ToeplitzLikeConvolution,
    ToeplitzLikeLinear,
    TransformConvolution,
    TransformLinear,
)
