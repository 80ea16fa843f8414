"""Steps: one file each, with a `run(inputs, params, out, context)` and a record of what other rooms know of it.

A step reads the files of `inputs` (name → Artifact), writes its outputs below the folder `out`, and may return outputs
that are one of its inputs, unchanged. It sees no store, no recipe and no task. What is heavy is imported by `run`: a
build with nothing to do loads every record.
"""

from quantmill.steps import (
    bench,
    card,
    convert,
    download,
    evaluate,
    imatrix,
    index,
    mix,
    part,
    preflight,
    publish,
    quality,
    quant,
    release,
    report,
    sensitivity,
    split,
    verify,
    wave,
)
from quantmill.steps.step import Step

# In the order in which a release's statement lists their versions.
_IN_ORDER = (
    *(download, convert, preflight, imatrix, wave, index, quant, part),
    *(evaluate, quality, bench, report, split, verify, card, release),
)
_SEARCH = (sensitivity, mix)  # of recipes with targets
STEPS: dict[str, Step] = {module.STEP.name: module.STEP for module in (*_IN_ORDER, *_SEARCH, publish)}


def versions(search: bool = True) -> dict[str, int]:
    """The version of every step that makes something of a release, by name; without `search`, of those of a recipe that
    has no target."""
    names = (module.STEP.name for module in (*_IN_ORDER, *(_SEARCH if search else ())))
    return {name: STEPS[name].version for name in names}
