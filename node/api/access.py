"""Who may call which route: reads, writes with the API token, and what is the operator's alone.

Owns the rule and its order, nothing of what the routes do. The operator's routes (`routes.Access.ADMIN`) change whom this
node talks to. They take a token of their own, so that whoever may submit cannot cut the node off from its network, and
answer to this machine only, unless the operator named other addresses (as Bitcoin Core's `rpcallowip`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

from aiohttp import web

from ..config_kinds import PeerPattern
from .problems import ApiProblem
from .token import carries_token

CHALLENGE: Final = 'Basic realm="facechain", Bearer'


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAccess:
    """Who may change whom the node talks to."""

    token: str = ""
    """Empty: nobody."""
    networks: Sequence[PeerPattern] = ()
    """Addresses beside this machine's own."""

    def check(self, request: web.Request) -> None:
        """Refuse a request from elsewhere, or without the token; raises ApiProblem 403 or 401."""
        remote = request.remote or ""
        if not self._may_come_from(remote):
            raise ApiProblem(
                403,
                "admin-elsewhere",
                f"expected a request from the node's own machine or an address of its setting api_admin, got {remote}",
                got=remote,
            )
        given = request.headers.get("Authorization", "")
        if not self.token or not carries_token(given, self.token):
            raise token_required("admin-token-required", "admin token (file admin-token", given)

    def _may_come_from(self, remote: str) -> bool:
        try:
            address = ip_address(remote.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address.is_loopback or any(item.matches(remote) for item in self.networks)


def token_required(code: str, what: str, given: str) -> ApiProblem:
    """Return the answer to a request without the right token."""
    return ApiProblem(
        401,
        code,
        f"expected the node's {what} in its data directory) as 'Authorization: Bearer …', "
        f"got {'another one' if given else 'none'}",
        headers={"WWW-Authenticate": CHALLENGE},
    )
