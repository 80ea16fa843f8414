"""The quant step's params, plain JSON as keys and recipes hold them, as the overrides that the mix takes."""

from collections.abc import Mapping
from typing import Any

from quantmill.quant.mix import Overrides
from quantmill.reference.ftypes import tensor_type


def overrides_of(params: Mapping[str, Any]) -> Overrides:
    """The overrides in `output_tensor_type`, `token_embedding_type` (type names) and `tensor_types` ([[regex, type],
    ...]), and `pure`; keys that are not there override nothing. UsageError for an unknown type."""
    output, embedding = params.get("output_tensor_type"), params.get("token_embedding_type")
    return Overrides(
        output_tensor_type=tensor_type(output) if output else None,
        token_embedding_type=tensor_type(embedding) if embedding else None,
        tensor_types=tuple((pattern, tensor_type(name)) for pattern, name in params.get("tensor_types", ())),
        pure=params.get("pure", False),
    )
