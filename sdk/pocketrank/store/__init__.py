"""The device store: what was shown and what came of it, in one SQLite file that never leaves the device."""

from pocketrank.store.device import DeviceStore
from pocketrank.store.records import DEFAULT_LIMITS, MAX_VALUE, Action, Event, Impression, Limits, StoreSize

__all__ = ["DEFAULT_LIMITS", "MAX_VALUE", "Action", "DeviceStore", "Event", "Impression", "Limits", "StoreSize"]
