"""Published UniVS and Mask2Former checkpoints, completed by what the network has beyond them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from methods.univs.network.model import UniVSNetwork
from methods.univs.weights.renaming import from_published

PUBLISHED = (
    "the published ones are linked at github.com/MinghanLi/UniVS (Model_zoo.md) and "
    "github.com/facebookresearch/Mask2Former (MODEL_ZOO.md)"
)

_ADDED = r"\.proca\.|^language\.|^task\.|^decoder\.heads\.classes\."  # the parts that Mask2Former lacks
_QUERIES = ("decoder.query", "decoder.query_code")


def published_state(network: UniVSNetwork, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Return a published state dict that fits the network, and whether it is only a part of it (Mask2Former's).

    The text tower is in neither: it keeps its weights (see ``load_text``). Of Mask2Former the class head is left out,
    and its queries where their number differs; ProCA, Lang2Img, text layers and task vectors keep their initial values.

    Args:
        network: the network.
        state: tensors by their published names.
    """
    own, renamed = network.state_dict(), from_published(state)
    initial = r"^text\.|\.num_batches_tracked$"
    partial = any(key.startswith("class_embed.") for key in renamed)
    if partial:
        initial = f"{initial}|{_ADDED}"
        renamed = {key: value for key, value in renamed.items() if not key.startswith("class_embed.")}
        if any(key in renamed and renamed[key].shape != own[key].shape for key in _QUERIES):
            renamed = {key: value for key, value in renamed.items() if key not in _QUERIES}
            initial = f"{initial}|^decoder\\.query"
    return {key: value for key, value in own.items() if re.search(initial, key)} | renamed, partial
