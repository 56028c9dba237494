"""Items and notes -> shards: planned, converted in processes that may die, written so that a stop loses nothing."""

from pipelines.pack.notes import Rejoined, rejoin_notes
from pipelines.pack.packing import Result, pack
from pipelines.pack.settings import PackSettings

__all__ = ["PackSettings", "Rejoined", "Result", "pack", "rejoin_notes"]
