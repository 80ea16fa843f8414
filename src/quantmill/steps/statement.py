"""The in-toto statement of a release: what was made, of what, by what (SLSA provenance v1)."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "urn:quantmill:release:v1"


class MadeBy(TypedDict):
    """Who made a release: quantmill's version, the span of llama.cpp's tags, and each step's version."""

    quantmill: str
    generation: int
    steps: dict[str, int]


class Params(TypedDict):
    """The release step's. `repo` is None where the release is not published; `imatrix` is what of its use is not as
    llama.cpp of the tag has it; `requantized` is the ftype of a base that was quantized; `tools` are the facts of the
    llama.cpp's programs that ran steps, by step. `tag` to `made_by` are what `release_tag.params` gives, and `proof`,
    what llama.cpp's tag stands on."""

    recipe: str
    prefix: str
    llama_cpp: str
    tag: str
    repo: str | None
    texts: dict[str, str]
    materials: list[dict[str, Any]]
    made_by: MadeBy
    imatrix: NotRequired[dict[str, Any]]
    proof: NotRequired[str]
    requantized: NotRequired[str]
    tools: NotRequired[dict[str, Any]]


def statement(subjects: Mapping[str, str], byproducts: Mapping[str, str], params: Params) -> dict[str, Any]:
    """The statement, as plain JSON. `subjects` and `byproducts` are name → sha256; `params` the release step's.

    https://slsa.dev/spec/v1.0/provenance gives the fields' meaning. It holds no time and no machine: whoever builds the
    release again makes the same statement, which is what is to be proven.
    """
    made_by = params["made_by"]
    quantmill = {
        "name": "quantmill",
        "uri": f"pkg:pypi/quantmill@{made_by['quantmill']}",
        "annotations": {"generation": made_by["generation"], "steps": made_by["steps"]},
    }
    texts = [{"name": name, "digest": {"sha256": subjects[name]}} for name in params["texts"]]
    return {
        "_type": STATEMENT,
        "subject": _descriptors(subjects),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {
                    "recipe": params["recipe"],
                    "tag": params["tag"],
                    "llama_cpp": params["llama_cpp"],
                },
                "internalParameters": {
                    "generation": made_by["generation"],
                    **({"llama_cpp_proof": params["proof"]} if "proof" in params else {}),
                },
                "resolvedDependencies": [*params["materials"], *texts, quantmill],
            },
            "runDetails": {
                "builder": {"id": BUILD, "version": {"quantmill": made_by["quantmill"]}},
                "metadata": {"invocationId": params["tag"]},
                "byproducts": _descriptors(byproducts),
            },
        },
    }


def _descriptors(digests: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())]
