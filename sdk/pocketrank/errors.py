"""Everything that PocketRank raises on purpose.

::

    PocketRankError
    +-- InputError (ValueError)            what the app handed over does not fit
    +-- ExtraMissingError (ImportError)    an optional dependency is not installed
    |   +-- RuntimeMissingError            no TFLite runtime works here
    +-- BundleError (ValueError)           a bundle is corrupt, tampered with or of another format
    +-- ModelError (RuntimeError)          a model failed, or gave scores that are not finite
    +-- StoreError (RuntimeError)          the device store can't be opened or written
    +-- UpdateError (RuntimeError)         an update was refused; the last good bundle stays
    +-- RoundRefusedError (RuntimeError)   the device will not take part in a round
    +-- PrivacyBudgetExceeded (RuntimeError)  a round would overspend the privacy budget
    +-- GateError (RuntimeError)           a bundle did not pass a release gate
    +-- LeakError (RuntimeError)           something to train or rank with depends on what it is measured on

Each message names the thing, its value, what was expected and the next step.
"""


class PocketRankError(Exception):
    """Root of all errors of PocketRank."""


class InputError(PocketRankError, ValueError):
    """An argument has the wrong type, shape, size or value."""


class ExtraMissingError(PocketRankError, ImportError):
    """An optional dependency is missing; the message holds the pip line."""


class RuntimeMissingError(ExtraMissingError):
    """No TFLite runtime could build an Interpreter."""


class BundleError(PocketRankError, ValueError):
    """A bundle can't be trusted or read."""


class ModelError(PocketRankError, RuntimeError):
    """A model could not be run, or its output is not usable."""


class StoreError(PocketRankError, RuntimeError):
    """The device store can't be used."""


class UpdateError(PocketRankError, RuntimeError):
    """An update was refused. What was installed before is untouched."""


class RoundRefusedError(PocketRankError, RuntimeError):
    """The device's own policy forbids this round."""


class PrivacyBudgetExceeded(PocketRankError, RuntimeError):  # noqa: N818  (the field's established name)
    """Another round would spend more than the budget."""


class GateError(PocketRankError, RuntimeError):
    """A candidate bundle was stopped by a gate; the message names the gate and the figures."""


class LeakError(PocketRankError, RuntimeError):
    """What is trained or ranked with has seen the test; the message names it."""
