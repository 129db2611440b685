"""A client of a node's HTTP API (version /v1): typed answers, and errors with their exit codes.

Owns the requests, the token and what can go wrong on the way. Commands use it through `ask_node`, which runs
one coroutine to its end.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from .answers import (
    Account,
    AnswerError,
    BlockName,
    Fields,
    NodeStatus,
    Proposals,
    Receipt,
    Roles,
    StatementStatus,
    Upgrades,
)
from .errors import CheckFailedError, CommandError, NotFoundError, RefusedError, UnreachableError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from ..consensus.params import Params
    from ..consensus.statement import Statement
    from ..node.data_dir import DataDir

TOKEN_VARIABLE: Final = "FACECHAIN_API_TOKEN"  # noqa: S105 - the name of a variable
ADMIN_TOKEN_VARIABLE: Final = "FACECHAIN_ADMIN_TOKEN"  # noqa: S105 - the name of a variable
ADMIN_CODE: Final = "admin-token-required"
CONNECT_SECONDS: Final = 5.0
REQUEST_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.5
MAX_ANSWER_BYTES: Final = 64 * 2**20
OCTETS: Final = "application/octet-stream"

_OK, _UNAUTHORIZED, _NOT_FOUND, _TOO_MANY, _UNAVAILABLE = 200, 401, 404, 429, 503

Result = TypeVar("Result")


class NodeRefused(RefusedError):
    """The node said no; `code` is its reason, such as `bad-sequence`."""

    def __init__(self, code: str, message: str, *, retry_after_seconds: float | None = None) -> None:
        """`retry_after_seconds`: when the node asks to come again later."""
        wait = None if retry_after_seconds is None else f"try again in {retry_after_seconds:g} s"
        super().__init__(message if message.startswith(f"{code}: ") else f"{code}: {message}", advice=wait)
        self.code = code
        self.retry_after_seconds = retry_after_seconds


class NodeClient:
    """One node's API; an asynchronous context manager."""

    def __init__(
        self, api: str, *, token: str | None = None, request_seconds: float = REQUEST_SECONDS
    ) -> None:
        """`api` is the base URL; UsageError when it is none."""
        self.api = base_url(api)
        self._token = token
        self._request_seconds = request_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=self._request_seconds, connect=CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def status(self) -> NodeStatus:
        """Return the node's view of network and tip."""
        return NodeStatus.of(await self.get("/v1/status"))

    async def params(self) -> Params:
        """Return the network's parameters."""
        from ..consensus.errors import DecodeError
        from ..node.genesis_file import params_from_json

        answer = await self.get("/v1/params")
        if isinstance(answer, dict) and isinstance(answer.get("pow_limit_bits"), int):
            answer["pow_limit_bits"] = f"{answer['pow_limit_bits']:#010x}"
        try:
            return params_from_json(answer)
        except DecodeError as error:
            raise AnswerError(f"params: {error.what}", expected=str(error.expected), got=error.got) from error

    async def account(self, public: bytes) -> Account:
        """Return roles and next sequence number of a ledger key."""
        return Account.of(await self.get(f"/v1/accounts/{public.hex()}"))

    async def roles(self, height: int | None = None) -> Roles:
        """Return every role entry; `held` is about `height` (default: the next one)."""
        query = {} if height is None else {"height": str(height)}
        return Roles.of(await self.get("/v1/roles", query))

    async def proposals(self) -> Proposals:
        """Return open and effective role proposals."""
        return Proposals.of(await self.get("/v1/proposals"))

    async def checkpoint(self) -> BlockName | None:
        """Return the highest checkpoint with a quorum, None when there is none yet."""
        fields = Fields.of("checkpoint", await self.get("/v1/checkpoint"))
        return None if fields.is_null("checkpoint") else BlockName.of(fields.content["checkpoint"])

    async def upgrades(self) -> Upgrades:
        """Return the protocol versions: in force, known, scheduled, asked for."""
        return Upgrades.of(await self.get("/v1/upgrade"))

    async def block(self, reference: int | bytes) -> BlockName:
        """Return a block by height or hash; NotFoundError when the node has none."""
        name = reference.hex() if isinstance(reference, bytes) else str(reference)
        return BlockName.of(await self.get(f"/v1/blocks/{name}"))

    async def submit(self, statement: Statement) -> StatementStatus:
        """Hand in a signed statement; NodeRefused names the rule that it breaks."""
        answer = await self._request("POST", "/v1/statements", body=statement.encode(), content_type=OCTETS)
        status = StatementStatus.of(answer)
        if status.id != statement.id:
            raise AnswerError("statement: id", expected=statement.id.hex(), got=status.id.hex())
        return status

    async def statement(self, statement_id: bytes) -> StatementStatus:
        """Return how far a statement has come; NotFoundError when the node does not know it."""
        return StatementStatus.of(await self.get(f"/v1/statements/{statement_id.hex()}"))

    async def statement_bytes(self, statement_id: bytes) -> bytes:
        """Return an encoded statement, by the node's word; NotFoundError without one."""
        content: bytes = await self._request("GET", f"/v1/statements/{statement_id.hex()}", octets=True)
        return content

    async def encryption_key(self, public: bytes) -> bytes | None:
        """Return the encryption key of a viewer, None for a key without that role."""
        fields = Fields.of("account", await self.get(f"/v1/accounts/{public.hex()}"))
        found = [entry for entry in fields.objects("entries") if entry.text("role") == "viewer"]
        held = [entry for entry in found if entry.flag("held")]
        return held[0].hash("encryption_key") if held else None

    async def record_count(self, statement_id: bytes) -> int:
        """Return how many images a batch has, 0 for another statement."""
        fields = Fields.of("statement", await self.get(f"/v1/statements/{statement_id.hex()}"))
        if fields.is_null("batch"):
            return 0
        return Fields.of("batch", fields.content["batch"]).number("record_count")

    async def wait(
        self,
        statement_id: bytes,
        *,
        confirmations: int,
        timeout_seconds: float,
        poll_seconds: float = POLL_SECONDS,
        progress: Callable[[StatementStatus], None] | None = None,
    ) -> StatementStatus:
        """Return once `confirmations` blocks confirm the statement.

        Raises:
            RefusedError: the node dropped it.
            CheckFailedError: time is up.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while True:
            found = await self.statement(statement_id)
            if progress is not None:
                progress(found)
            if found.confirmations >= confirmations:
                return found
            if found.receipt is Receipt.REFUSED:
                raise RefusedError(f"statement {statement_id.hex()} was dropped: {found.refusal}")
            if loop.time() + poll_seconds > deadline:
                raise CheckFailedError(
                    f"statement {statement_id.hex()}",
                    expected=f"{confirmations} confirmations within {timeout_seconds:g} s",
                    got=f"{found.confirmations}, {found.receipt}",
                    advice="the node keeps it; ask again later",
                )
            await asyncio.sleep(poll_seconds)

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Return the JSON of an answer; a CommandError of the fitting kind otherwise."""
        return await self._request("GET", path, query=query)

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: Mapping[str, object] | None = None,
    ) -> Any:
        """Return the JSON of the answer to a request whose body, if any, is `content` as JSON."""
        body = None if content is None else json.dumps(content).encode()
        media = None if content is None else "application/json"
        return await self._request(method, path, query=query, body=body, content_type=media)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        octets: bool = False,
    ) -> Any:
        """Return the JSON of an answer, or its bytes when `octets` are asked for."""
        import aiohttp

        if self._session is None:
            raise RuntimeError("client: expected use as a context manager, got a request before it")
        headers = {"Accept": OCTETS if octets else "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if content_type is not None:
            headers["Content-Type"] = content_type
        try:
            async with self._session.request(
                method, self.api + path, params=query, data=body, headers=headers, allow_redirects=False
            ) as response:
                content = await _read(response)
                if octets and response.status == _OK:
                    return content
                return _answer(f"{method} {self.api}{path}", response.status, response.headers, content)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(
                f"node at {self.api}",
                expected="an answer",
                got=_reason(error),
                advice="start the node or check --api",
            ) from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise AnswerError(
                str(response.url), expected=f"at most {MAX_ANSWER_BYTES} bytes", got="a longer answer"
            )
    return bytes(content)


def _answer(request: str, status: int, headers: Mapping[str, str], content: bytes) -> Any:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if 200 <= status < 300:
        if value is None:
            raise AnswerError(request, expected="JSON", got=content[:40].decode("utf-8", "replace"))
        return value
    raise _refusal(request, status, headers, value)


def _refusal(request: str, status: int, headers: Mapping[str, str], value: Any) -> CommandError:
    """Return the error for an answer that is none of the 2xx ones."""
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return AnswerError(request, expected="an answer of a facechain node", got=f"status {status}")
    code, message = str(error.get("code")), str(error.get("message"))
    parts = {name: error[name] for name in ("expected", "got") if error.get(name) is not None}
    if parts and "expected" not in message:
        message = ": ".join((message, ", ".join(f"{name} {text}" for name, text in parts.items())))
    if status == _UNAUTHORIZED:
        what = (
            f"admin token in {ADMIN_TOKEN_VARIABLE}" if code == ADMIN_CODE else f"token in {TOKEN_VARIABLE}"
        )
        return RefusedError(
            f"{code}: {message}", advice=f"give the node's {what}, or its folder with --data-dir"
        )
    if status == _NOT_FOUND:
        return NotFoundError(f"{code}: {message}")
    if status == _UNAVAILABLE:
        return UnreachableError(f"{code}: {message}", advice="the node is starting or stopping; try again")
    return NodeRefused(code, message, retry_after_seconds=_retry_after(status, headers))


def _retry_after(status: int, headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    if status != _TOO_MANY:
        return None
    return float(text) if text.isascii() and text.isdigit() else 1.0


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "none in time"
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    code = getattr(cause, "errno", None)
    return os.strerror(code) if isinstance(code, int) and code > 0 else str(error) or type(error).__name__


def base_url(api: str) -> str:
    """Return the URL without a slash at the end; `HOST:PORT` alone means http. UsageError otherwise."""
    text = api if "://" in api else f"http://{api}"
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
        good = good and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise UsageError("option --api", expected="a URL such as http://127.0.0.1:7441", got=repr(api))
    return text.rstrip("/")


def api_token(data_dir: DataDir) -> str | None:
    """Return the token for writes: FACECHAIN_API_TOKEN, else the data directory's, else None."""
    return _token(TOKEN_VARIABLE, data_dir.api_token_file)


def admin_token(data_dir: DataDir) -> str | None:
    """Return the operator's token: FACECHAIN_ADMIN_TOKEN, else the data directory's, else None."""
    return _token(ADMIN_TOKEN_VARIABLE, data_dir.admin_token_file)


def _token(variable: str, path: Path) -> str | None:
    given = os.environ.get(variable)
    if given:
        return given.strip()
    try:
        return path.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None


def ask_node(
    api: str,
    data_dir: DataDir,
    action: Callable[[NodeClient], Awaitable[Result]],
    *,
    as_admin: bool = False,
) -> Result:
    """Run `action` with a client of the node at `api` and return what it returns; `as_admin`: with the operator's token."""

    async def run() -> Result:
        token = admin_token(data_dir) if as_admin else api_token(data_dir)
        async with NodeClient(api, token=token) as client:
            return await action(client)

    return asyncio.run(run())
