"""What a token's state holds as it goes from layer to layer: mostly its numbers alone, but more where layers share."""

from collections.abc import Mapping
from dataclasses import dataclass

from quantmill.architectures.conditions import of, whole
from quantmill.architectures.hyperparameters import Hyper
from quantmill.architectures.operations import Attend, LayerInputs


@dataclass(frozen=True)
class StateColumns:
    """The columns of the states.

    `sets`: the sets of n_embd columns in front, of which the first is the active one
    `kept`: of a layer whose keys and values later ones take, the first column of its keys and that of its values
    `token`: the column of the token's id, which is a number below 2^24; -1 where no layer asks for it
    `width`: all columns
    """

    sets: int
    kept: Mapping[int, tuple[int, int]]
    token: int
    width: int


def state_columns(hyper: Hyper) -> StateColumns:
    """The columns of a model's states."""
    sizes, layers, operations = hyper.sizes, range(hyper.n_layer), hyper.row.operations
    sets = whole(sizes.get("altup", 1))
    end, kept = sets * hyper.n_embd, dict[int, tuple[int, int]]()
    for attend in (each for each in operations if isinstance(each, Attend)):
        for layer in layers:
            giver = hyper.giver(attend, layer, sizes)
            if giver is not None and giver != layer and giver not in kept:
                width = of("kv", sizes, giver)
                kept[giver] = end, end + width
                end += 2 * width
    asked = [each.where for each in operations if isinstance(each, LayerInputs)]
    token = end if any(where(sizes, layer) for where in asked for layer in layers) else -1
    return StateColumns(sets, kept, token, end + (token >= 0))
