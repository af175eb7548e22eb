"""PocketRank: candidates ordered on the device, with signals that never leave it."""

from pocketrank.bundle import Bundle
from pocketrank.errors import PocketRankError
from pocketrank.reranker import Reranker
from pocketrank.slate import RankedItem, Slate
from pocketrank.store import DeviceStore, Event

__all__ = ["Bundle", "DeviceStore", "Event", "PocketRankError", "RankedItem", "Reranker", "Slate"]
__version__ = "0.1.0"
