"""Who is let in, and how often: the key and the rate, asked for by route dependencies of the endpoint and the page alike."""

import ipaddress
import math
import re
from collections.abc import Sequence

from fastapi import Request

from assistant.errors import ThousandError
from serve.errors import ApiError
from serve.keys import Keys
from serve.rate import Rate
from serve.seen import watching

LOGINS_PER_MINUTE = 10
"""Attempts to log in to the page from one address, good or bad."""

_ORIGIN = re.compile(r"https?://[^/\s,*]+")


def _check_origins(origins: Sequence[str], keys: Keys) -> None:
    for origin in origins:
        if origin == "*" and not keys.asked:
            raise ThousandError(
                "--allow-origin '*' lets every page that somebody opens here use the model, so it needs a key: set THOUSAND_API_KEY"
            )
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ThousandError(f"--allow-origin is {origin!r}, no origin; give one such as https://example.org")


def whose(host: str) -> str:
    """An address as limits count it: of IPv6 the network, since anybody has all addresses in it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False))


class Access:
    """The keys, the limits on asking, and the hosts and origins that are answered."""

    def __init__(
        self,
        *,
        hosts: Sequence[str] = (),
        keys: Keys | None = None,
        origins: Sequence[str] = (),
        requests_per_minute: int | None = None,
    ) -> None:
        """`hosts` are the Host headers that are answered while no key is asked for; `origins` are those of pages elsewhere
        that may call the endpoint. Raises ThousandError for what is no origin, or lets every page in without a key."""
        self.keys = Keys() if keys is None else keys
        self.origins = tuple(origins)
        self._hosts = frozenset(hosts)
        self._requests = Rate(requests_per_minute)
        self._logins = Rate(LOGINS_PER_MINUTE)
        _check_origins(origins, self.keys)

    def answers_to(self, host: str | None) -> bool:
        """Whether a request may name this host. Without a key this is what tells a page whose name was rebound to this
        address from this machine's own."""
        return self.keys.asked or host in self._hosts

    def allows_origin(self, origin: str) -> bool:
        """Whether a page from there may call the endpoint."""
        return "*" in self.origins or origin in self.origins

    async def require_key(self, request: Request) -> None:
        """A route dependency: the key as a bearer token, when keys are asked for."""
        if not self.keys.asked:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        known = self.keys.check(given.strip()) if scheme.lower() == "bearer" else None
        if known is None:
            raise ApiError(
                401,
                "The API key is missing or wrong; send it as: Authorization: Bearer KEY",
                kind="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if (seen := watching.get()) is not None:
            seen.key = known[0]

    async def keep_rate(self, request: Request) -> None:
        """A route dependency, after the key's: no more requests a minute than allowed."""
        seen = watching.get()
        self.count_request(None if seen is None else seen.key, request.client.host if request.client else "")

    def count_request(self, key: str | None, host: str) -> None:
        """One more request of a key, or without keys of an address. Raises ApiError when it is one too many."""
        wait = self._requests.wait(f"address {whose(host)}" if key is None else f"key {key}")
        if wait:
            raise _too_often("Too many requests in a minute", wait)

    def count_login(self, host: str) -> None:
        """One more attempt to log in. Raises ApiError when it is one too many."""
        wait = self._logins.wait(whose(host))
        if wait:
            raise _too_often("Too many attempts to log in", wait)


def _too_often(what: str, wait: float) -> ApiError:
    seconds = math.ceil(wait)
    return ApiError(
        429,
        f"{what}; try again in {seconds} seconds.",
        kind="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after=seconds,
    )
