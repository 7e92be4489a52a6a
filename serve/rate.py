"""How often somebody may ask: a token bucket for each, by the generic cell rate algorithm."""

import time

MOST_KNOWN = 10_000
"""Buckets kept; beyond it those that are full again are forgotten, or else the one that is nearest to it."""


class Rate:
    """At most `per_minute` in a burst, refilled evenly over a minute. None is no bound."""

    def __init__(self, per_minute: int | None) -> None:
        self._apart = None if per_minute is None else 60 / per_minute
        self._full: dict[str, float] = {}
        """When the bucket of each will be full again, on the monotonic clock."""

    def wait(self, who: str) -> float:
        """0 when `who` may go on, and that is counted; else the seconds until it may."""
        if self._apart is None:
            return 0.0
        now = time.monotonic()
        full = max(self._full.get(who, now), now) + self._apart
        if (late := full - now - 60) > 1e-6:
            return late
        if len(self._full) >= MOST_KNOWN and who not in self._full:
            self._full = {name: at for name, at in self._full.items() if at > now}
            if len(self._full) >= MOST_KNOWN:
                del self._full[min(self._full, key=self._full.__getitem__)]
        self._full[who] = full
        return 0.0
