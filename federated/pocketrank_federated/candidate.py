"""The result of federated rounds as the next bundle: new parameters and what they cost, every other file as it was."""

from __future__ import annotations

import dataclasses

from pocketrank.bundle import GOLDEN, PARAMS, Bundle, Lineage, PrivacyStatement, build, save_arrays
from pocketrank.learner import Params
from pocketrank.scorer import Scorer
from pocketrank.verification import score_slates


def successor(parent: Bundle, params: Params, privacy: PrivacyStatement, *, data: str) -> Bundle:
    """Make the bundle that follows ``parent`` with ``params``.

    The golden slates stay; their scores are made anew on the runtime that is
    here, so run the gates on every other runtime before it is signed.

    Args:
        parent: The bundle that the rounds started from.
        params: Trained values of all its trainable parameters.
        privacy: What the rounds spent; it is signed with the bundle.
        data: What the parameters learned from, in words for a person.

    Raises:
        BundleError: The parameters are not those of ``parent``, or not finite.
        ModelError: The model fails with them.
    """
    draft = build(parent.manifest, {**parent.files, PARAMS: save_arrays(params)})
    golden = dict(draft.golden())
    golden["scores"] = score_slates(Scorer(draft), golden["features"], golden["mask"])
    manifest = dataclasses.replace(
        parent.manifest,
        version=parent.manifest.version + 1,
        privacy=privacy,
        lineage=Lineage(parent=parent.digest, source="federated", data=data),
    )
    return build(manifest, {**draft.files, GOLDEN: save_arrays(golden)})
