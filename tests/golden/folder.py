"""Write the cases of ``masks.py`` and their committed scores as one folder, in the layouts that the tests read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.golden import masks as cases
from tests.golden.masks import Case

HERE = Path(__file__).resolve().parent
EXPECTED = ("vos_expected.json", "vots_expected.json", "vqs_expected.json")
PALETTE = [channel for i in range(256) for channel in (i * 37 % 256, i * 91 % 256, i * 151 % 256)]
AS_PNG = ("p07_two_swap", "p08_three_absent", "p14_vanish_return")


def write_golden(root: Path) -> Path:
    """Write arrays, PNGs, VOTS sequences and expected scores below ``root`` and return it.

    Raises:
        ValueError: a case differs from the one that was scored.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name in EXPECTED:
        (root / name).write_text((HERE / name).read_text())
    vos = {name: make() for name, make in cases.VOS.items()}
    check(vos, json.loads((HERE / "vos_expected.json").read_text())["cases"])
    (root / "vos").mkdir()
    for name, case in vos.items():
        np.savez(root / "vos" / f"{name}.npz", gt=case.gt, pred=case.pred)
    write_davis(root / "davis_png", {name: vos[name] for name in AS_PNG})
    write_vots(root, check(vots_cases(), json.loads((HERE / "vots_expected.json").read_text())["cases"]))
    write_vqs(root, check(vqs_cases(), json.loads((HERE / "vqs_expected.json").read_text())["cases"]))
    return root


def check(drawn: dict[str, Case], scored: dict[str, dict]) -> dict[str, Case]:
    """Return the cases, or raise ValueError where one of them is not the one that was scored."""
    for name, case in drawn.items():
        if case.sha256 != scored[name]["sha256"]:
            raise ValueError(
                f"{name}: its masks are not those that the official tools scored; run tests/golden/make.py"
            )
    return drawn


def vots_cases() -> dict[str, Case]:
    """Return the VOTS sequences."""
    return {name: make() for name, make in cases.VOTS.items()}


def vqs_cases() -> dict[str, Case]:
    """Return the VQS videos."""
    return {name: cases.vqs_case(number) for number, name in enumerate(cases.VQS)}


def write_pngs(folder: Path, label_maps: np.ndarray, names: list[str] | None = None) -> None:
    """Write label maps (T, H, W) as palette PNGs, by default 00000.png and so on."""
    folder.mkdir(parents=True)
    for number, label_map in enumerate(label_maps):
        image = Image.fromarray(label_map)
        image.putpalette(PALETTE)
        image.save(folder / f"{names[number] if names else f'{number:05d}'}.png")


def write_davis(root: Path, vos: dict[str, Case]) -> None:
    """Write annotations in the layout of DAVIS and predictions in ``pred``."""
    for name, case in vos.items():
        write_pngs(root / "Annotations" / "480p" / name, case.gt)
        write_pngs(root / "pred" / name, case.pred)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(vos) + "\n")


def write_vots(root: Path, sequences: dict[str, Case]) -> None:
    """Write a VOTS workspace without images, and the same data as arrays."""
    arrays = {}
    place = root / "vots" / "sequences"
    place.mkdir(parents=True)
    (place / "list.txt").write_text("\n".join(sequences) + "\n")
    for name, case in sequences.items():
        ids = [int(i) for i in np.unique(case.gt) if i]
        state = np.ones((len(case.gt), len(ids)), np.uint8)
        ignore = np.zeros(case.gt.shape, bool)
        if name == "v04_unknown_gt":
            state[list(cases.UNKNOWN_FRAMES)] = 2
            y0, x0, y1, x1 = arrays[f"{name}__ignore_box_yxyx"] = np.array(cases.VOTS_IGNORE_BOX)
            ignore[:, y0:y1, x0:x1] = True
        arrays |= {f"{name}__gt": case.gt, f"{name}__pred": case.pred, f"{name}__state": state}
        write_sequence(place / name, case, state, ignore)
        for i in ids:
            lines = ["1", *(region(labels == i, empty="0") for labels in case.pred[1:])]
            write_lines(root / "vots" / "results" / name / f"{name}_{i}_001.txt", lines)
    np.savez(root / "vots_arrays.npz", **arrays)


def write_sequence(folder: Path, case: Case, state: np.ndarray, ignore: np.ndarray) -> None:
    """Write annotations and metadata of one VOTS sequence."""
    frames, height, width = case.gt.shape
    for column, i in enumerate(i for i in np.unique(case.gt) if i):
        lines = [
            "0" if unknown else region(labels == i, empty="1")
            for labels, unknown in zip(case.gt, state[:, column] == 2, strict=True)
        ]
        write_lines(folder / f"groundtruth_{i}.txt", lines)
    write_lines(folder / "groundtruth__ignore.txt", [region(mask, empty="0") for mask in ignore])
    write_lines(folder / "evaluation.tag", ["0", *["1"] * (frames - 1)])
    metadata = {
        "channels.color": "color/%08d.jpg",
        "format": "default",
        "fps": 30,
        "height": height,
        "length": frames,
        "name": folder.name,
        "width": width,
    }
    write_lines(folder / "sequence", [f"{key}={value}" for key, value in metadata.items()])


def write_lines(path: Path, lines: list[str]) -> None:
    """Write lines of text, making the folder where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def region(mask: np.ndarray, empty: str) -> str:
    """Return a mask (H, W) in the text format of VOT, cropped to its box; ``empty`` where there is none."""
    if not mask.any():
        return empty
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    edges = np.flatnonzero(
        np.diff(box.ravel(), prepend=False)
    )  # where a run of pixels ends; the first run is background
    runs = np.diff(np.concatenate([[0], edges, [box.size]]))
    return "m" + ",".join(str(n) for n in (columns[0], rows[0], box.shape[1], box.shape[0], *runs))


def write_vqs(root: Path, videos: dict[str, Case]) -> None:
    """Write bit-packed masks, ``<video>__gt`` and ``<video>__pred``."""
    packed = {
        f"{name}__{kind}": np.packbits(getattr(case, kind).astype(bool))
        for name, case in videos.items()
        for kind in ("gt", "pred")
    }
    np.savez(root / "vqs.npz", **packed)
