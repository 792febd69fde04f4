"""The architecture of SAM 2 that a file of weights is of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from common.checkpoints import WeightsFile, load_strict, read_weights, weights_file
from common.errors import InputError
from common.nn.sam2.config import TRUNKS
from common.nn.sam2.model import SAM2
from common.nn.sam2.published import PUBLISHED, find_sam2
from common.nn.sam2.weights import sam2_state

READ_FROM_WEIGHTS = ("size", "version", "image_size")
"""Constructor arguments of the methods on SAM 2 that ``choose_architecture`` fills in."""


class Architecture(NamedTuple):
    """Arguments of ``SAM2``.

    Attributes:
        size: one of ``SIZES``.
        version: ``"2"`` or ``"2.1"``.
        image_size: side of the square input; None = the default of the size.
    """

    size: str
    version: str
    image_size: int | None = None


def read_architecture(state: Mapping[str, Tensor], where: str | Path) -> Architecture:
    """Return the size and version of SAM 2 that weights are of, by the shapes and names of their tensors.

    Args:
        state: as ``sam2_state`` takes it.
        where: the file, for the message.

    Raises:
        InputError: the weights are of no SAM 2, or of one of another size.
    """
    state = sam2_state(state)
    patches = state.get("vision_encoder.backbone.patch_embed.projection.weight")
    if patches is None:
        raise InputError(f"{where}: no weights of SAM 2: they have no image encoder; {PUBLISHED}")
    blocks = {key.split(".")[3] for key in state if key.startswith("vision_encoder.backbone.blocks.")}
    shape = (len(patches), len(blocks))
    known = {(trunk["widths"][0], sum(trunk["blocks"])): size for size, trunk in TRUNKS.items()}
    if shape not in known:
        raise InputError(
            f"{where}: an image encoder of width {shape[0]} and {shape[1]} blocks is none of SAM 2's sizes"
        )
    newer = "occlusion_spatial_embedding_parameter" in state
    return Architecture(known[shape], "2.1" if newer else "2")


def choose_architecture(
    file: WeightsFile | None,
    where: str | Path | None,
    size: str | None = None,
    version: str | None = None,
    image_size: int | None = None,
) -> Architecture:
    """Return the architecture that fits a file of weights; without one nano 2.1, as far as nothing else is given.

    Args:
        file: the weights.
        where: the file they are from, for messages.
        size: as given by the user; None = that of the file.
        version: the same.
        image_size: the same; a file of this suite has the side that it was trained at, others the default.

    Raises:
        InputError: the file contradicts what is given, or see ``read_architecture``.
    """
    if file is None or where is None:
        return Architecture(size or "nano", version or "2.1", image_size)
    found = read_architecture(file.state, where)
    for name, given, stored in (("size", size, found.size), ("version", version, found.version)):
        if given is not None and given != stored:
            raise InputError(
                f"{where}: the weights are of SAM {found.version} {found.size}, but the settings say {name} {given}; "
                f"leave {name} out, or give {name} {stored}"
            )
    side = image_size or file.settings.get("image_size")
    return found._replace(image_size=side if isinstance(side, int) else None)


def sam2_from(
    path: str | Path, size: str | None = None, version: str | None = None, image_size: int | None = None
) -> SAM2:
    """Build the SAM 2 that a file of weights is of, and load them.

    Args:
        path: as ``load_sam2`` takes it.
        size: see ``choose_architecture``.
        version: the same.
        image_size: the same.

    Raises:
        InputError: no such file, one of another SAM 2 than asked for, or one that does not fit.
    """
    file = weights_file(find_sam2(path), PUBLISHED)
    content = read_weights(file)
    network = SAM2(*choose_architecture(content, file, size, version, image_size))
    load_strict(network.net, sam2_state(content.state), file)
    return network
