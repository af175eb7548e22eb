"""The result of federated rounds as the next bundle: new parameters and what they cost, every other file as it was."""

from __future__ import annotations

import dataclasses

from pocketrank.bundle import PARAMS, Bundle, Lineage, PrivacyStatement, build, save_arrays
from pocketrank.learner import Params


def successor(parent: Bundle, params: Params, privacy: PrivacyStatement, *, data: str) -> Bundle:
    """Make the bundle that follows ``parent`` with ``params``.

    Nothing is proven of it yet: run the gates on every runtime before it is signed.

    Args:
        parent: The bundle that the rounds started from.
        params: Trained values of all its trainable parameters.
        privacy: What the rounds spent; it is signed with the bundle.
        data: What the parameters learned from, in words for a person.

    Raises:
        BundleError: The parameters are not those of ``parent``, or not finite.
    """
    manifest = dataclasses.replace(
        parent.manifest,
        version=parent.manifest.version + 1,
        privacy=privacy,
        lineage=Lineage(parent=parent.digest, source="federated", data=data),
        runtimes={},
        report={},
    )
    made = build(manifest, {**parent.files, PARAMS: save_arrays(params)})
    made.params()  # refuses what does not fit
    return made
