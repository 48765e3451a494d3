"""How often Python searches for reference cycles during the export."""

from __future__ import annotations

import gc
from contextlib import suppress

from stages.lib.export import garbage


def test_searches_are_rare_until_the_end_or_an_error() -> None:
    usual = gc.get_threshold()
    with suppress(ValueError), garbage.few_collections():
        assert all(now > before for now, before in zip(gc.get_threshold(), usual, strict=True))
        raise ValueError
    assert gc.get_threshold() == usual
