"""Settings that do not fit, and the gap between memory updates."""

from __future__ import annotations

import pytest

from common.errors import InputError
from methods.hqsmem.settings import DeAOTSettings, MemorySettings, memory_of


@pytest.mark.parametrize("bad", [{"width": 40}, {"window": 4}, {"layers": 0}])
def test_settings_that_do_not_fit(bad):
    with pytest.raises(InputError):
        DeAOTSettings(**bad)


def test_gaps():
    assert [MemorySettings(gap="length").at(length).gap for length in (None, 60, 151, 3000)] == [5, 5, 5, 100]
    assert MemorySettings(gap=3).at(900).gap == 3
    assert (memory_of("deaot-s").gap, memory_of("swinb-deaot-l").gap) == (None, 5)
    for bad in ({"gap": 0}, {"short_term_skip": 0}, {"capacity": 0}):
        with pytest.raises(InputError):
            MemorySettings(**bad)  # type: ignore[arg-type]
