"""How long a build will take yet: what its tasks were thought to take, by what they have taken so far."""

from collections.abc import Mapping

LEAST = 2.0  # seconds of measured work before anything is said


class TimeLeft:
    """`estimated`: seconds of each task that takes time worth telling. `now` is a clock's seconds. Not for several
    threads at once."""

    def __init__(self, estimated: Mapping[str, float]) -> None:
        self._estimated = {name: seconds for name, seconds in estimated.items() if seconds > 0}
        self._began: dict[str, float] = {}
        self._shares: dict[str, float] = {}
        self._spent = self._done = 0.0  # of the tasks that have ended

    def begin(self, name: str, now: float) -> None:
        """A task runs from now on."""
        if name in self._estimated:
            self._began[name], self._shares[name] = now, 0.0

    def advance(self, name: str, share: float) -> None:
        """So much of a running task is done, from 0 to 1."""
        if name in self._shares:
            self._shares[name] = share

    def end(self, name: str, now: float) -> None:
        """A task ran to its end, or had nothing to do."""
        estimated, began = self._estimated.pop(name, 0.0), self._began.pop(name, None)
        self._shares.pop(name, None)
        if began is not None:
            self._spent, self._done = self._spent + now - began, self._done + estimated

    def left(self, now: float) -> float | None:
        """Seconds until all tasks are done; None while too little was measured."""
        spent = self._spent + sum(now - began for began in self._began.values())
        shares = {name: self._estimated[name] * share for name, share in self._shares.items()}
        done = self._done + sum(shares.values())
        if spent < LEAST or not done:
            return None
        rest = sum(self._estimated.values()) - sum(shares.values())
        return rest * spent / done / max(len(self._began), 1)
