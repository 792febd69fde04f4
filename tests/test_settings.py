"""Settings restored from plain data, and the names of rows."""

from __future__ import annotations

from dataclasses import asdict

from common.settings import changed, restore
from methods.sslvos.session import SessionSettings
from methods.sslvos.settings import LongTermSettings, MemorySettings


def test_settings_come_back_from_plain_data_with_those_inside() -> None:
    settings = SessionSettings(MemorySettings(every=3, frames=10, long_term=LongTermSettings(keep=2)))
    assert restore(SessionSettings, asdict(settings)) == settings


def test_other_values_stay_as_they_are() -> None:
    assert restore(SessionSettings, None) is None
    settings = SessionSettings()
    assert restore(SessionSettings, settings) is settings


def test_changed_settings_are_named_in_order() -> None:
    settings = MemorySettings(frames=3, top_k=20, skip_absent=False)
    assert changed(settings, MemorySettings(), {"top_k": "k"}) == ["frames=3", "k=20", "skip_absent=False"]
    assert changed(None, MemorySettings()) == changed(MemorySettings(), MemorySettings()) == []
