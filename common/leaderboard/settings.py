"""Which settings of two runs must agree for their numbers to share a row of a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.files import digest
from common.records.record import ResultRecord

TRAINED = "trained here"  # the ``weights_note`` of a run that was tested with the checkpoint of a training run
# Where weights come from is in ``weights_note``, which is part of a row already; paths differ from seed to seed.
NOT_COMPARED = frozenset({"weights", "save_predictions"})
OPTIMISER = frozenset({"lr", "weight_decay", "warmup_steps", "final_lr", "milestones", "loss_weights"})


def settings_id(record: ResultRecord) -> str:
    """Return a hash of the settings that the numbers of a run depend on.

    Left out are the seed, the path of the weights, ``save_predictions``, options without a value (a later version may
    have added them), and the optimiser's options of a run whose weights were not trained for it.

    Args:
        record: record of the run.
    """
    return digest(_compared(record))


def by_settings(records: Sequence[ResultRecord]) -> dict[str, list[ResultRecord]]:
    """Group records by ``settings_id``, in the order of their first appearance.

    Args:
        records: records of one method, variant and kind of weights.
    """
    groups: dict[str, list[ResultRecord]] = {}
    for record in records:
        groups.setdefault(settings_id(record), []).append(record)
    return groups


def differences(groups: Sequence[Sequence[ResultRecord]]) -> list[str]:
    """Describe what tells groups of runs apart, e.g. ``lr=0.001, inference.sides=[256]``; one text a group.

    Args:
        groups: at least two groups, each of runs with equal settings.
    """
    options = [dict(_flat(_compared(group[0]))) for group in groups]
    names = sorted({name for option in options for name in option if any(o.get(name) != option[name] for o in options)})
    texts = (", ".join(f"{name}={option[name]}" for name in names if name in option) for option in options)
    return [text or "default settings" for text in texts]


def _compared(record: ResultRecord) -> dict[str, Any]:
    """Return the compared settings by name."""
    skipped = NOT_COMPARED if record.weights_note == TRAINED else NOT_COMPARED | OPTIMISER
    options = record.config.get("model", {}).get("init_args", {})
    options = {name: value for name, value in options.items() if value is not None and name not in skipped}
    return options | {name: value for name, value in record.config.items() if name != "model"}


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield options with dotted names and their values as JSON; null ones are left out."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False, default=str)
