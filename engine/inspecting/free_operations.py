"""Which of torch's operations count no multiply-accumulates by convention."""

from typing import Any

import torch

_FREE_TAGS = {
    torch.Tag.inplace_view,
    torch.Tag.pointwise,
    torch.Tag.reduction,
    torch.Tag.view_copy,
}
_FREE_BEGINNINGS = (
    "_adaptive_avg_pool",
    "_assert",
    "_batch_norm",
    "_embedding_bag",
    "_fake_quantize",
    "_index_put",
    "_native_batch_norm",
    "_unique",
    "_unsafe_",
    "_upsample",
    "adaptive_",
    "argm",
    "avg_pool",
    "bernoulli",
    "cum",
    "empty",
    "fake_quantize",
    "fractional_max_pool",
    "grid_sampler",
    "index",
    "masked_",
    "max_pool",
    "max_unpool",
    "native_batch_norm",
    "native_group_norm",
    "native_layer_norm",
    "new_",
    "rand",
    "reflection_pad",
    "replication_pad",
    "scatter",
    "select_",
    "slice_",
    "split_with_sizes_copy",
    "unique",
    "unsafe_split",
    "upsample_",
)
_FREE_NAMES = """
_conj _fused_dropout _fused_rms_norm _fused_sdp_choice _linalg_check_errors _local_scalar_dense
_log_softmax _logcumsumexp _masked_softmax _pack_padded_sequence _prelu_kernel _reshape_alias
_reshape_copy _safe_softmax _softmax _stack _thnn_fused_gru_cell _thnn_fused_lstm_cell _to_copy
_weight_norm_interface alias arange bincount bucketize cat channel_shuffle clone col2im complex
constant_pad_nd copy dequantize detach diag_embed diagonal_scatter embedding embedding_renorm
equal eye fft_fftfreq fft_rfftfreq fill flip floor_divide full full_like gather glu hardswish
histc im2col is_nonzero isin item kthvalue lift lift_fresh linspace log_sigmoid_forward
logcumsumexp max median min mode multinomial nan_to_num nanmedian native_channel_shuffle
native_dropout nonzero norm normal one_hot ones ones_like pixel_shuffle pixel_unshuffle polar
prelu put renorm repeat repeat_interleave resize roll rot90 rrelu_with_noise rsub scalar_tensor
searchsorted set sort stack sym_constrain_range sym_constrain_range_for_size sym_numel sym_size
take topk trace tril tril_indices triu triu_indices uniform var_mean zero zeros zeros_like
"""
_FREE = frozenset(_FREE_NAMES.split())


def is_free(operation: Any) -> bool:
    """Say whether an operation (an overload of `torch.ops`) only moves, maps, sums or normalizes.

    Operations that nobody here knows, such as a Fourier transform or a user's own, are not free.
    """
    if operation.is_view or not _FREE_TAGS.isdisjoint(operation.tags):
        return True
    namespace, _, name = operation._schema.name.partition("::")
    if namespace != "aten":
        return bool(namespace in ("prim", "prims", "profiler"))
    # Only the form that is not in place carries torch's tags.
    plain = name.rstrip("_")
    twin = getattr(torch.ops.aten, plain, None) if plain != name else None
    if twin is not None and is_free(getattr(twin, twin.overloads()[0])):
        return True
    return plain in _FREE or plain.startswith(_FREE_BEGINNINGS)
