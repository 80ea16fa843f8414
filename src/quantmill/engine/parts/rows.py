"""The rows that the operations of a layer work on."""

from dataclasses import dataclass

from quantmill.architectures.operations import Seen
from quantmill.engine.buffers import Floats
from quantmill.engine.layer import LayerWeights, Taps
from quantmill.engine.positions import Positions


@dataclass
class Rows:
    """Of whole chunks, one row a token, as operations.py tells of them.

    `change`: None where no part of the layer has made one, or none is wanted
    `wanted`: whether the operation's result is; if not, it goes only as far as the importance needs it
    """

    layer: LayerWeights
    positions: Positions
    importance: Taps | None
    states: Floats
    normed: Floats
    change: Floats | None
    wanted: bool = True

    def seen(self, by: Seen) -> Floats:
        """The rows that an operation sees."""
        return self.normed if by == "normed" else self.states
