"""The rows that the operations of a layer work on."""

from dataclasses import dataclass

from quantmill.architectures.operations import Seen
from quantmill.engine.buffers import Floats
from quantmill.engine.layer import LayerWeights, Taps
from quantmill.engine.positions import Positions


@dataclass
class Rows:
    """Of whole chunks, one row a token, as operations.py tells of them.

    `whole`: the states with all that they hold (columns.py), of which `states` may be a copy of the active set
    `change`: None where no part of the layer has made one, or none is wanted
    `aside`: a change that was put aside; `predictions`: AltUp's, of all sets
    `wanted`: whether the operation's result is; if not, it goes only as far as the importance needs it
    """

    layer: LayerWeights
    positions: Positions
    importance: Taps | None
    states: Floats
    normed: Floats
    change: Floats | None
    whole: Floats
    wanted: bool = True
    aside: Floats | None = None
    predictions: Floats | None = None

    def seen(self, by: Seen) -> Floats:
        """The rows that an operation sees."""
        return self.normed if by == "normed" else self.states
