"""Steps: one file each, one `run(inputs, params, out, context)` each.

A step reads the files of `inputs` (name → Artifact), writes its outputs below the folder `out`, and may return outputs
that are one of its inputs, unchanged. It sees no store, no recipe and no task. A step's number here is part of its key:
raise it when the step's own code changes what it writes.
"""

VERSIONS: dict[str, int] = {
    "download": 1,
    "convert": 1,
    "preflight": 4,
    "imatrix": 1,
    "wave": 1,
    "index": 1,
    "quant": 1,
    "part": 1,
    "evaluate": 1,
    "quality": 2,
    "bench": 2,
    "report": 3,
    "split": 1,
    "verify": 1,
    "card": 5,
    "release": 3,
}
