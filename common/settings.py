"""Dataclasses of settings: restored from the plain data of a checkpoint, and compared with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


def restore(kind: type[T], value: T | dict[str, Any] | None) -> T | None:
    """Return the settings that ``value`` stands for; a checkpoint holds settings as dictionaries.

    Args:
        kind: the dataclass. Fields that are dataclasses themselves are restored too.
        value: an instance, its fields as a dictionary, or None.

    Returns:
        An instance of ``kind``, or None where ``value`` is None.
    """
    if not isinstance(value, dict) or not is_dataclass(kind):
        return value  # type: ignore[return-value]  # a dictionary that is the value of a field
    hints = get_type_hints(kind)
    return kind(**{name: restore(_dataclass_in(hints.get(name)), part) for name, part in value.items()})


def changed(
    settings: DataclassInstance | None, defaults: DataclassInstance, labels: Mapping[str, str] | None = None
) -> list[str]:
    """Return ``name=value`` of each field in which settings differ from their defaults, to name a table's row.

    Args:
        settings: an instance of a dataclass; None = the defaults.
        defaults: an instance of the same dataclass.
        labels: names to print in place of the fields' names.
    """
    if settings is None:
        return []
    values = {field.name: (getattr(settings, field.name), getattr(defaults, field.name)) for field in fields(defaults)}
    labels = labels or {}
    return [f"{labels.get(name, name)}={value}" for name, (value, default) in values.items() if value != default]


def _dataclass_in(hint: object) -> type[Any]:
    """Return the dataclass in a field's type, which may be optional; else the type itself."""
    return next((kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)), object)
