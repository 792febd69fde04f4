"""Attention inside a window around each token, for the short-term memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def window_attend(
    query: Tensor, key: Tensor, value: Tensor, relative: Tensor, size: tuple[int, int], scale: float
) -> Tensor:
    """softmax(query keyᵀ scale + relative) value over the window of each query; outside the map is nothing to see.

    Row by row: queries of a row meet the rows of their windows in one product, so that neither keys nor values are
    copied for every window.

    Shape:
        query, key: (B, h w, C).
        value: (B, h w, D).
        relative: (B, h w, k k), a logit for each place of the k x k window, row by row, from above left.
        size: (h, w).
        the result: (B, h w, D).
    """
    (height, width), batch = size, len(query)
    side = int(relative.shape[-1] ** 0.5)
    reach = side // 2
    bias = _unroll(relative.view(batch, height, width, side, side).transpose(2, 3))
    rows = []
    for y in range(height):
        top, bottom = max(0, y - reach), min(height, y + reach + 1)
        seen = slice(top * width, bottom * width)
        own = bias[:, y, top - y + reach : bottom - y + reach].transpose(1, 2).flatten(2)
        logits = torch.baddbmm(
            own, query[:, y * width : (y + 1) * width], key[:, seen].transpose(1, 2), beta=1, alpha=scale
        )
        rows.append(logits.softmax(-1) @ value[:, seen])
    return torch.cat(rows, 1)


def _unroll(relative: Tensor) -> Tensor:
    """Logits of places (..., w, k), column j for the key j - k // 2 to the right, to those of keys (..., w, w).

    A key outside the window gets -inf. Row q of a matrix of w + k columns, read with one column less, is shifted by q.
    """
    width, side = relative.shape[-2:]
    wide = F.pad(relative, (0, width), value=-torch.inf).flatten(-2)[..., : width * (width + side - 1)]
    return wide.unflatten(-1, (width, width + side - 1))[..., side // 2 : side // 2 + width]
