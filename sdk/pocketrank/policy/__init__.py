"""What may be shown and where, declared as data: filters, pins, boosts, quotas, shares, diversity."""

from pocketrank.policy.rules import Boost, Condition, Diversity, MinShare, Pin, Policy, Quota

__all__ = ["Boost", "Condition", "Diversity", "MinShare", "Pin", "Policy", "Quota"]
