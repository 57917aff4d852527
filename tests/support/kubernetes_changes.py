"""What no server lets change in an object that exists: a second `kubectl apply` would be refused."""

from __future__ import annotations

from tests.support.kubernetes import Object, Objects, label
from tests.support.kubernetes_rules import quantity

# Kind -> what may change in the specification of one that exists; of the kinds that are not here all may.
_MAY_CHANGE = {
    "Job": {"parallelism", "suspend", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"},
    "StatefulSet": {
        "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "minReadySeconds",
        "persistentVolumeClaimRetentionPolicy",
    },
    "PersistentVolumeClaim": {"volumeAttributesClassName"},
}  # fmt: skip


def refused_changes(before: Objects, after: Objects) -> list[str]:
    """What a server that has the first objects refuses of the second ones, because it cannot be changed."""
    existing = {label(entry): entry for entry in before}
    refused = []
    for entry in after:
        name, old = label(entry), existing.get(label(entry))
        if not old:
            continue
        for key in _different(old, entry, _MAY_CHANGE.get(entry["kind"])):
            refused.append(f"{name}: {key} cannot change")
        if entry["kind"] == "Deployment" and old["spec"]["selector"] != entry["spec"]["selector"]:
            refused.append(f"{name}: selector cannot change")
        addresses = [each["spec"].get("clusterIP") for each in (old, entry) if entry["kind"] == "Service"]
        if len(set(addresses)) > 1:
            refused.append(f"{name}: clusterIP cannot change")
        if old.get("immutable") and (old.get("data"), old.get("binaryData")) != (
            entry.get("data"),
            entry.get("binaryData"),
        ):
            refused.append(f"{name}: is immutable")
    return refused


def _different(old: Object, new: Object, allowed: set[str] | None) -> list[str]:
    if allowed is None:
        return []
    parts = old["spec"], new["spec"]
    keys = sorted((parts[0].keys() | parts[1].keys()) - allowed)
    if old["kind"] == "PersistentVolumeClaim":
        # One that grows is the storage class's to allow.
        sizes = [quantity(part["resources"]["requests"]["storage"]) or 0 for part in parts]
        keys = [key for key in keys if key != "resources" or sizes[1] < sizes[0]]
    return [key for key in keys if parts[0].get(key) != parts[1].get(key)]
