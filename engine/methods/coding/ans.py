"""Store symbols in as many bits as they are worth, fractions of a bit included.

Duda: Asymmetric numeral systems (2013), as implemented by the library constriction (Bamler 2022).
"""

from typing import Any, ClassVar

import constriction
import numpy as np
import numpy.typing as npt

from featherweight.engine.bit_packing import packed, packed_bytes, unpacked
from featherweight.engine.methods.bit_codes import fields, written
from featherweight.engine.methods.entropy_coding import EntropyCoding
from featherweight.engine.methods.method import Coded
from featherweight.engine.weight_forms import Symbols

Numbers = npt.NDArray[Any]

EXPONENT_BITS = 5
MANTISSA_BITS = 8


class Ans(EntropyCoding, frozen=True, kw_only=True):
    """Arithmetic coding by how often each symbol occurs; the smallest of the codes here."""

    name: ClassVar[str] = "ans"
    title: ClassVar[str] = "Arithmetic coding (ANS)"
    label: ClassVar[str] = "ANS"
    advice: ClassVar[str] = (
        "The smallest file: reaches the entropy of the weights, far below one bit each where most "
        "are zero. Use it unless another program must read the weights in place."
    )

    def coded(self, symbols: Symbols, alphabet: Numbers, counts: Numbers) -> Coded:
        """Return counts and coded words."""
        table = _counts_bytes(counts)
        positions = np.zeros(int(alphabet[-1]) + 1, np.int32)
        positions[alphabet] = np.arange(alphabet.size)
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(positions[symbols.values], _model(_rounded(counts)))
        words = coder.get_compressed().astype("<u4").tobytes()
        return Coded(table + words, 8 * len(words), tables=8 * len(table))

    def decoded(self, payload: bytes, alphabet: Numbers, count: int) -> Numbers:
        """Return the symbols of coded words. Raises ValueError where the payload is damaged."""
        counts, end = _counts_from(payload, alphabet.size)
        if (len(payload) - end) % 4:
            raise ValueError("the coded words are cut")
        words = np.frombuffer(payload[end:], "<u4").astype(np.uint32)
        if not words.size or not words[-1]:
            raise ValueError("the coded words are damaged")
        coder = constriction.stream.stack.AnsCoder(words)
        positions = coder.decode(_model(counts), count)
        if not coder.is_empty():
            raise ValueError("the coded words do not end with the last symbol")
        found: Numbers = alphabet[positions].astype(np.uint32)
        return found


def _rounded(counts: Numbers) -> Numbers:
    """Round counts to nine significant bits, which costs less than a millionth of the size."""
    shifts = np.maximum(_exponents(counts) - MANTISSA_BITS, 0)
    rounded: Numbers = (counts + ((1 << shifts) >> 1)) >> shifts << shifts
    return rounded


def _exponents(counts: Numbers) -> Numbers:
    return np.frexp(counts.astype(np.float64))[1].astype(np.int64) - 1


def _counts_bytes(counts: Numbers) -> bytes:
    rounded = _rounded(counts)
    exponents = _exponents(rounded)
    lengths = np.minimum(exponents, MANTISSA_BITS)
    mantissas = (rounded >> (exponents - lengths)) - (1 << lengths)
    body, _ = written(np.arange(counts.size), mantissas, lengths)
    return packed(exponents, EXPONENT_BITS).tobytes() + body


def _counts_from(payload: bytes, symbols: int) -> tuple[Numbers, int]:
    size = packed_bytes(symbols, EXPONENT_BITS)
    exponents = unpacked(payload[:size], EXPONENT_BITS, symbols).astype(np.int64)
    lengths = np.minimum(exponents, MANTISSA_BITS)
    end = size + packed_bytes(int(lengths.sum()), 1)
    mantissas = fields(payload[size:end], lengths)
    return (mantissas + (1 << lengths)) << (exponents - lengths), end


def _model(counts: Numbers) -> Any:
    probabilities = counts / counts.sum()
    return constriction.stream.model.Categorical(probabilities, perfect=False)
