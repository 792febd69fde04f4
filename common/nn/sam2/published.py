"""Published weights of SAM 2: where they are on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from common.checkpoints import find_weights
from common.errors import InputError
from common.files import WEIGHTS_VARIABLE, weights_folders

PUBLISHED = "the published ones are linked at github.com/facebookresearch/sam2 (sam2.1_hiera_tiny.pt and so on)"
_NAME = re.compile(r"(?:facebook/)?sam2(\.1)?[-_](?:hiera[-_])?(tiny|small|base[-_]plus|large)(?:\.pt)?")
_LINK = "https://dl.fbaipublicfiles.com/segment_anything_2/{date}/{file}"


def find_sam2(name: str | Path) -> Path:
    """Return the file or folder that a name of SAM 2 weights means; nothing is downloaded.

    Args:
        name: a path that ``find_weights`` finds; or a published network, as ``sam2.1-large``, ``sam2.1_hiera_large.pt``
            or ``facebook/sam2.1-hiera-large``, which is looked for in the folders of weights and in the cache folder of
            the Hugging Face Hub. Any other path is returned as it is.

    Raises:
        InputError: a published network, or a path to a file of such a name, that is not on this machine; says how to
            get it.
    """
    path = find_weights(name)
    match = _NAME.fullmatch(str(name)) or _NAME.fullmatch(path.name if path.suffix == ".pt" else "")
    if path.exists() or match is None:
        return path
    version, size = match[1] or "", match[2].replace("-", "_")
    file, hub = f"sam2{version}_hiera_{size}.pt", f"sam2{version}-hiera-{size.replace('_', '-')}"
    link = _LINK.format(date="092824" if version else "072824", file=file)
    if match[0] != str(name):
        raise InputError(
            f"{path}: no such file, and nothing is downloaded unasked; get it by: curl -L -o {path} {link}"
        )
    places = [find_weights(file), find_weights(hub), *_cached(f"facebook/{hub}", ("model.safetensors", file))]
    for place in places:
        if place.exists():
            return place
    raise InputError(
        f"{name}: not in weights/, ${WEIGHTS_VARIABLE} or the cache of the Hugging Face Hub, and nothing is downloaded "
        f"unasked; get it by: curl -L -o {weights_folders()[-1] / file} {link}"
    )


def _cached(repository: str, files: tuple[str, ...]) -> list[Path]:
    """Return those of a repository's files that are in the cache folder of the Hugging Face Hub."""
    from huggingface_hub import constants, try_to_load_from_cache

    found = [try_to_load_from_cache(repository, file, cache_dir=constants.HF_HUB_CACHE) for file in files]
    return [Path(path) for path in found if isinstance(path, str)]
