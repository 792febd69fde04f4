"""Run the analyses of vot-toolkit on the VOTS sequences of ``masks.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.masks import VOTS_THIN, Case

THIN_SIZE = (20, 30)


def score(root: Path, sequences: dict[str, Case]) -> dict[str, Any]:
    """Return what ``vots_expected.json`` holds, without the version of the toolkit.

    Args:
        root: workspace written by ``folder.write_vots``.
        sequences: the sequences in it.
    """
    cases = {name: {"description": case.description, "sha256": case.sha256} for name, case in sequences.items()}
    check_text(root, sequences)
    filters = {"all_frames": None, "evaluation_tag": "evaluation"}
    return {
        "cases": cases,
        **{key: analyses(root, list(sequences), tag) for key, tag in filters.items()},
        "overlap_quirks_20x30": {name: thin(*texts) for name, texts in VOTS_THIN.items()},
    }


def check_text(root: Path, sequences: dict[str, Case]) -> None:
    """Raise ValueError where the toolkit writes a region of a result file in another way than ``folder.region``."""
    from vot.region.shapes import Mask

    for name, case in sequences.items():
        for path in sorted((root / "results" / name).glob("*.txt")):
            number = int(path.stem.split("_")[-2])
            for line, labels in zip(path.read_text().split()[1:], case.pred[1:], strict=True):
                if (labels == number).any() and str(Mask(labels == number, optimize=True)) != line:
                    raise ValueError(f"{path}: the toolkit writes {Mask(labels == number, optimize=True)}, not {line}")


def experiment(root: Path) -> Any:
    """Return an experiment of the toolkit whose results lie in a folder."""
    from vot.experiment.multirun import MultiRunExperiment
    from vot.region.io import read_trajectory

    class Results(MultiRunExperiment):
        def __init__(self) -> None:
            pass

        def gather(self, tracker: Any, sequence: Any, objects: Any = None, pad: bool = False) -> list[Any]:
            folder = root / "results" / sequence.name
            return [read_trajectory(str(folder / f"{sequence.name}_{i}_001.txt")) for i in objects]

    return Results()


def analyses(root: Path, names: list[str], tag: str | None) -> dict[str, Any]:
    """Return the numbers of the whole set and of each sequence, over all frames or over those with a tag."""
    from vot.analysis.accuracy import AverageAccuracy, AverageSuccessPlot, SequenceAccuracy, SuccessPlot
    from vot.analysis.longterm import AccuracyRobustness, AverageQualityAuxiliary, CountFrames, QualityAuxiliary
    from vot.dataset.common import read_sequence
    from vot.dataset.proxy import IgnoreSpecialObjects
    from vot.utilities.data import Grid

    sequences = [IgnoreSpecialObjects(read_sequence(str(root / "sequences" / name))) for name in names]
    results = experiment(root)

    def grid(analysis: Any) -> Any:
        table = Grid(len(sequences), 1)
        for row, sequence in enumerate(sequences):
            table[row, 0] = analysis.subcompute(results, None, sequence, [])
        return table

    def trackers_first(analysis: Any) -> Any:
        table = Grid(1, len(sequences))
        for column, sequence in enumerate(sequences):
            table[0, column] = analysis.subcompute(results, None, sequence, [])
        return table

    quality = SequenceAccuracy(burnin=0, ignore_unknown=False, filter_tag=tag)
    ar, auxiliary, counts = (make(filter_tag=tag) for make in (AccuracyRobustness, QualityAuxiliary, CountFrames))
    plot = SuccessPlot(ignore_unknown=False, burnin=0, filter_tag=tag)
    accuracy = ar.dependencies()[1]
    of_set = ar.compute(results, [None], sequences, [trackers_first(counts), trackers_first(accuracy)])[0, 0]
    nre, dre, adq = AverageQualityAuxiliary(analysis=auxiliary).aggregate(None, sequences, grid(auxiliary))
    average = AverageAccuracy(analysis=quality, weighted=False).aggregate(None, sequences, grid(quality))
    curve = AverageSuccessPlot(analysis=plot).aggregate(None, sequences, grid(plot))[0]
    overall = {
        "Quality": average[0],
        "Accuracy": of_set[0],
        "Robustness": of_set[1],
        "NRE": nre,
        "DRE": dre,
        "ADQ": adq,
    }
    each = {
        sequence.name: one_sequence(results, sequence, quality, accuracy, auxiliary, counts) for sequence in sequences
    }
    return {"overall": {**overall, "success_plot_y": [y for _, y in curve]}, "per_sequence": each}


def one_sequence(
    results: Any, sequence: Any, quality: Any, accuracy: Any, auxiliary: Any, counts: Any
) -> dict[str, Any]:
    """Return the numbers of one sequence, and the overlaps of each object in all frames."""
    from vot.region import calculate_overlaps

    overlaps = {}
    for i in sequence.objects():
        (trajectory,) = results.gather(None, sequence, [i])
        regions = trajectory, sequence.object(i)
        overlaps[i] = list(calculate_overlaps(*regions, sequence.size, ignore=sequence.object("_ignore")))
    nre, dre, adq = auxiliary.subcompute(results, None, sequence, [])
    return {
        "objects": list(sequence.objects()),
        "quality": quality.subcompute(results, None, sequence, [])[0],
        "accuracy": accuracy.subcompute(results, None, sequence, [])[0],
        "NRE": nre,
        "DRE": dre,
        "ADQ": adq,
        "counts_TFMHN": [[int(n) for n in row] for row in counts.subcompute(results, None, sequence, [])[0]],
        "overlaps": overlaps,
    }


def thin(pred: str, target: str) -> dict[str, Any]:
    """Return how the toolkit takes two regions, cropped to their boxes as it keeps them, and on a whole canvas."""
    from vot.region import calculate_overlaps
    from vot.region.shapes import Mask

    cropped = [Mask(canvas(text), optimize=True) for text in (pred, target)]
    whole = [Mask(canvas(text)) for text in (pred, target)]
    height, width = THIN_SIZE
    return {
        "overlap_cropped": calculate_overlaps(cropped[:1], cropped[1:], (width, height))[0],
        "overlap_full": calculate_overlaps(whole[:1], whole[1:], (width, height))[0],
        "is_empty_cropped": [region.is_empty() for region in cropped],
        "is_empty_full": [region.is_empty() for region in whole],
        "text": [pred, target],
    }


def canvas(text: str) -> np.ndarray:
    """Return the mask (H, W) of a region in text."""
    mask = np.zeros(THIN_SIZE, np.uint8)
    if text.startswith("m"):
        x, y, width, height, *runs = (int(number) for number in text[1:].split(","))
        values = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
        mask[y : y + height, x : x + width] = values
    return mask
