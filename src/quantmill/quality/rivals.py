"""Whether a file whose types were searched is better than the stock files of its size."""

from collections.abc import Mapping
from typing import Any

NEAR = 1.005  # a stock file that is larger by less is of the same size


def told_of(
    targets: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Of each target: its mean KL divergence, what was predicted, and the stock file that it is compared with. A
    `finding` tells of one that none of its size is worse than, or none is there. `targets`: what the mix step tells;
    `measured`: `bytes` and quality of all files, by name."""
    stock = {name: file for name, file in measured.items() if name not in targets}
    return {name: _told(name, found, measured[name], stock) for name, found in targets.items()}


def _told(
    name: str, found: Mapping[str, Any], own: Mapping[str, Any], stock: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    kld = own["kld"]["mean"]
    told = {"bytes": own["bytes"], "kld": kld, "predicted_kld": found["predicted_kld"]}
    beside = {other: file for other, file in stock.items() if file["bytes"] <= own["bytes"] * NEAR}
    if (named := found["target"].get("like")) in stock:
        beside[named] = stock[named]
    if not beside:
        right = f"add one like {found['stock']['ftype']} to its matrix"
        text = f"{name}: the recipe has no stock file of its size or smaller, so that nothing shows that it is better"
        return told | {"finding": f"{text}; {right}"}
    best = min(beside, key=lambda other: (beside[other]["kld"]["mean"], beside[other]["bytes"], other))
    least = beside[best]
    told |= {"beside": {"ftype": best, "bytes": least["bytes"], "kld": least["kld"]["mean"]}}
    if kld < least["kld"]["mean"]:
        return told
    text = f"{name}: on the evaluation text it is no better than {best}, which is no larger"
    return told | {"finding": f"{text} ({kld} against {least['kld']['mean']} nats); take that, or leave the target out"}
