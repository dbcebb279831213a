"""The layers of ours that files may name: a new one is one more entry."""

from featherweight.engine.structured_layers import (
    CirculantLinear,
    MonarchLinear,
    StructuredLayer,
    ToeplitzLikeLinear,
)

STRUCTURED: tuple[type[StructuredLayer], ...] = (
    CirculantLinear,
    MonarchLinear,
    ToeplitzLikeLinear,
)
