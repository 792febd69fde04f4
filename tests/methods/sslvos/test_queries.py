"""Equations 4 to 6 by hand, and masked attention against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from common.errors import InputError
from methods.sslvos.cutie.object_transformer import DiscriminativeRead
from methods.sslvos.settings import CoreSettings, DiscriminativeSettings

# One query (3, 4, 0, 0) over four pixels; with identity projections every number can be followed.
PIXELS = torch.tensor([[[1.0, 0, 0, 0], [0, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 0]]])
QUERY = torch.tensor([[[3.0, 4, 0, 0]]])
NOWHERE = torch.zeros(1, 1, 4)


def read(pixels: Tensor, query: Tensor, allowed: list[bool], alpha: float = 1.0, **settings) -> Tensor:
    """Q_out with identity projections and no layer norm; ``allowed`` for each pixel, the same for all queries."""
    module = DiscriminativeRead(4, DiscriminativeSettings(**settings))
    module.norm = nn.Identity()
    with torch.no_grad():
        for layer in (module.proj, module.final):
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.eye(4))
                layer.bias.zero_()
        module.alpha.fill_(alpha)
    mask = torch.tensor(allowed).expand(1, query.shape[1], -1)
    return module(query, pixels, torch.zeros_like(query), torch.zeros_like(pixels), mask).detach()


def test_the_most_similar_pixel_inside_the_target_is_picked():
    # normalised query (.6 .8); cosines .6, .8, 1, 0. Allowed all: pixel 2 = (.6 .8), product (.36 .64), its norm
    # √(.1296 + .4096) = .73430; out = product / norm + picked + query
    got = read(PIXELS, QUERY, [True] * 4, heads=1)
    norm = (0.36**2 + 0.64**2) ** 0.5
    torch.testing.assert_close(got, torch.tensor([[[0.36 / norm + 0.6 + 3, 0.64 / norm + 0.8 + 4, 0, 0]]]))
    # pixel 2 is outside: pixel 1 = (0 1) wins, product (0 .8), normalised (0 1)
    got = read(PIXELS, QUERY, [True, True, False, True], heads=1)
    torch.testing.assert_close(got, torch.tensor([[[3.0, 1 + 1 + 4, 0, 0]]]))


def test_a_blocked_pixel_never_wins_by_being_nil():
    """All similarities negative: a product with the mask would let the blocked pixel win with 0."""
    got = read(-PIXELS, QUERY, [True, True, False, False], heads=1)
    # cosines -.6 and -.8: pixel 0 = (-1 0), product (-.6 0), normalised (-1 0)
    torch.testing.assert_close(got, torch.tensor([[[3.0 - 1 - 1, 4, 0, 0]]]))


def test_each_head_picks_its_own_pixel():
    # heads are channels (0 1) and (2 3). Head 0: cosine parts .6, .8, 1, 0 -> pixel 2. Head 1: all 0 -> the first
    got = read(PIXELS, QUERY, [True] * 4, heads=2)
    norm = (0.36**2 + 0.64**2) ** 0.5
    torch.testing.assert_close(got[0, 0, :2], torch.tensor([0.36 / norm + 0.6 + 3, 0.64 / norm + 0.8 + 4]))
    query = torch.tensor([[[3.0, 0, 4, 0]]])  # (.6 0 .8 0): head 0 picks pixel 0 = (1 0), head 1 pixel 3 = (1 0)
    got = read(PIXELS, query, [True] * 4, heads=2, alpha=0.0)
    torch.testing.assert_close(got, torch.tensor([[[1.0 + 3, 0, 1 + 4, 0]]]))


def test_the_printed_reading_gathers_the_raw_feature():
    got = read(PIXELS, QUERY, [False, True, False, True], alpha=0.0, heads=1, gathered="raw", project=False)
    torch.testing.assert_close(got, torch.tensor([[[3.0, 2 + 4, 0, 0]]]))


def test_norm_over_queries_is_the_other_axis():
    # two queries, pixel 2 for both: products (.36 .64) and (.6 0); over the queries the columns have norm 1
    query = torch.tensor([[[3.0, 4, 0, 0], [5.0, 0, 0, 0]]])
    allowed = [False, False, True, False]
    got = read(PIXELS, query, allowed, heads=1, norm="queries")
    column = torch.tensor([0.36, 0.6]) / (0.36**2 + 0.6**2) ** 0.5
    torch.testing.assert_close(got[0, :, 0], column + 0.6 + query[0, :, 0])
    torch.testing.assert_close(got[0, :, 1], torch.tensor([1.0, 0]) + 0.8 + query[0, :, 1])


def test_gradients_reach_the_picked_pixel_only():
    module = DiscriminativeRead(4, DiscriminativeSettings(heads=1))
    pixels = PIXELS.clone().requires_grad_()
    zero = torch.zeros(1, 4, 4)
    module(QUERY, pixels, NOWHERE, zero, torch.tensor([[[False, True, False, False]]])).sum().backward()
    assert pixels.grad[0].any(1).tolist() == [False, True, False, False]
    assert all(p.grad is not None for p in module.parameters())


def test_settings_that_cannot_be():
    seven = DiscriminativeSettings(heads=7)
    for bad, said in (({"queries": 7}, "queries"), ({"embed": 250}, "embed"), ({"discriminative": seven}, "7 disc")):
        with pytest.raises(InputError, match=said):
            CoreSettings(**bad)
