"""The node's settings: one frozen value from a TOML file, the environment and explicit overrides.

Owns the table of settings (the fields of `NodeConfig`), their precedence (override > environment > file >
default) and the text that `--print-config` shows. It opens the file and nothing else; whether a port is free or
a key exists is found out by whoever uses it.
"""

# `_setting` only makes dataclass fields, which is what RUF009 cannot see.
# ruff: noqa: RUF009

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from .config_kinds import (
    CHAINWORK,
    ENDPOINT,
    FLAG,
    KEY,
    PATH,
    PATTERN,
    PINNED,
    Endpoint,
    Kind,
    PeerPattern,
    PinnedBlock,
    choice,
    listed,
    whole,
)
from .data_dir import DataDir, default_data_dir
from .wire.handshake import PROTOCOL_VERSIONS

ENVIRONMENT_PREFIX: Final = "FACECHAIN_NODE_"
CONFIG_VARIABLE: Final = "FACECHAIN_NODE_CONFIG"
"""Path of the configuration file, when it is not the one in the data directory."""
FOREIGN_VARIABLES: Final = ("START_", "CONFIG", "PORT", "SERVICE_")
"""Beginnings, after the prefix, of names that are not settings: command options, and what Docker and Kubernetes
set for a service that is called facechain-node."""

GOT_CHARACTERS_MAX: Final = 80
WORKERS_MAX: Final = 1024
CONNECTIONS_MAX: Final = 10_000
HEIGHT_MAX: Final = 2**63 - 1


class ConfigError(Exception):
    """A setting cannot be used; the text says where it stands, what was expected and what was found."""

    code: Final = "config"

    def diagnostics(self) -> str:
        """Return the failure as one line for a person."""
        return f"{self.code}: {self}"


def _setting(default: object, kind: Kind, about: str) -> Any:
    return dataclasses.field(default=default, metadata={"kind": kind, "about": about})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Every setting of a node, checked. Paths are absolute."""

    data_dir: Path = dataclasses.field(
        default_factory=default_data_dir,
        metadata={"kind": PATH, "about": "where the node keeps everything"},
    )
    genesis: Path | None = _setting(None, PATH, "genesis file; default: genesis.json in the data directory")
    listen: Endpoint = _setting(
        Endpoint(host="0.0.0.0", port=7440),  # noqa: S104 - a peer is meant to be reached
        ENDPOINT,
        "where peers connect",
    )
    advertise: Endpoint | None = _setting(None, ENDPOINT, "address told to peers, when it is not `listen`")
    api: Endpoint = _setting(
        Endpoint(host="127.0.0.1", port=7441), ENDPOINT, "where HTTP API and explorer listen"
    )
    api_token_file: Path | None = _setting(
        None, PATH, "token that writes need; default: api-token in the data directory"
    )
    api_admin_token_file: Path | None = _setting(
        None, PATH, "token that changing peers needs; default: admin-token in the data directory"
    )
    api_admin: tuple[PeerPattern, ...] = _setting(
        (), listed(PATTERN), "addresses, beside this machine's own, from which peers may be changed"
    )
    api_read_token: bool = _setting(default=False, kind=FLAG, about="whether reads need the token, too")
    peers: tuple[Endpoint, ...] = _setting((), listed(ENDPOINT), "peers to connect to from the start")
    max_inbound: int = _setting(64, whole(0, CONNECTIONS_MAX), "connections that peers may open to this node")
    max_outbound: int = _setting(8, whole(0, CONNECTIONS_MAX), "connections that this node opens by itself")
    allow: tuple[PeerPattern, ...] = _setting(
        (), listed(PATTERN), "when not empty: the only peers to talk to"
    )
    deny: tuple[PeerPattern, ...] = _setting((), listed(PATTERN), "peers never to talk to")
    wire_version: int = _setting(
        PROTOCOL_VERSIONS[1], whole(*PROTOCOL_VERSIONS), "highest version of the wire protocol to speak"
    )
    mine: bool = _setting(default=False, kind=FLAG, about="whether to seal blocks")
    mining_key: str | None = _setting(None, KEY, "key that seals: a name or the absolute path of a key file")
    mining_backend: str = _setting("hashlib", choice("hashlib", "numba", "cuda"), "what searches for nonces")
    mining_workers: int = _setting(1, whole(1, WORKERS_MAX), "processes that search for nonces")
    minimum_chainwork: int = _setting(0, CHAINWORK, "work (hex) below which a chain of headers is not stored")
    checkpoints: tuple[PinnedBlock, ...] = _setting((), listed(PINNED), "blocks that the chain must contain")
    max_reorg: int = _setting(1000, whole(0, HEIGHT_MAX), "deepest reorganisation done without being told to")
    deep_reorg: int = _setting(
        6, whole(1, HEIGHT_MAX), "reorganisations of at least this many blocks raise the alarm"
    )
    log_level: str = _setting(
        "info", choice("debug", "info", "warning", "error"), "least important line logged"
    )
    log_json: bool = _setting(default=False, kind=FLAG, about="whether log lines are JSON objects")

    @property
    def layout(self) -> DataDir:
        """The data directory's files."""
        return DataDir(root=self.data_dir)

    @property
    def genesis_file(self) -> Path:
        """The genesis file, named or default."""
        return self.genesis or self.layout.genesis_file

    @property
    def token_file(self) -> Path:
        """The API token's file, named or default."""
        return self.api_token_file or self.layout.api_token_file

    @property
    def admin_token_file(self) -> Path:
        """The admin token's file, named or default."""
        return self.api_admin_token_file or self.layout.admin_token_file


SETTINGS: Final[Mapping[str, dataclasses.Field[Any]]] = MappingProxyType(
    {field.name: field for field in dataclasses.fields(NodeConfig)}
)
"""Every setting by its key; `metadata` holds its kind and what it is about."""


def load_config(
    *,
    overrides: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    config_file: Path | None = None,
) -> NodeConfig:
    """Put the settings together.

    `overrides`: values by key, as text or as TOML would give them; None means not given.
    `config_file`: must exist; without it the one that `CONFIG_VARIABLE` names, else `config.toml` in the
    data directory if there is one.
    ConfigError on an unknown key, a value of another kind, or a file that cannot be read.
    """
    environment = environment or {}
    explicit = _from_overrides(overrides or {})
    surrounding = _from_environment(environment)
    top = {**surrounding, **explicit}
    named = config_file or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    if named is not None:
        return NodeConfig(**{**_from_file(named.expanduser().absolute()), **top})
    root: Path = top.get("data_dir") or default_data_dir()
    found = DataDir(root=root).config_file
    values = _from_file(found) if found.exists() else {}
    if values.get("data_dir", root) != root:
        raise ConfigError(
            f"{found}: data_dir: expected {root}, where the file is, got {values['data_dir']}; "
            "remove the line, or name the file with --config"
        )
    return NodeConfig(**{**values, **top, "data_dir": root})


def render_config(config: NodeConfig) -> str:
    """Return `config` as TOML that reads back as the same settings; those without a value are comments."""
    lines = []
    for key, setting in SETTINGS.items():
        value = getattr(config, key)
        lines.append(f"# {setting.metadata['about']}")
        lines.append(
            f"# {key} =" if value is None else f"{key} = {_toml(setting.metadata['kind'].write(value))}"
        )
    return "\n".join(lines) + "\n"


def _from_overrides(overrides: Mapping[str, object]) -> dict[str, Any]:
    values = {}
    for key, value in overrides.items():
        _check_known(key, "override", SETTINGS)
        if value is not None:
            values[key] = _read(
                key, value, f"--{key.replace('_', '-')}", Path.cwd(), is_text=isinstance(value, str)
            )
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Read the variables with the prefix; one that is set to nothing counts as not set."""
    names = {f"{ENVIRONMENT_PREFIX}{key.upper()}": key for key in SETTINGS}
    values = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        if name not in names and name.removeprefix(ENVIRONMENT_PREFIX).startswith(FOREIGN_VARIABLES):
            continue
        _check_known(name, "environment", names)
        if text:
            values[names[name]] = _read(names[name], text, name, Path.cwd(), is_text=True)
    return values


def _from_file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a readable file, got {error.strerror}; check --config"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8 text, got byte 0x{error.object[error.start]:02x}"
        ) from error
    except (ValueError, RecursionError) as error:
        # Not only the parser's own class: a number of 5,000 digits, or 1,000 brackets within each other.
        raise ConfigError(f"{path}: expected TOML, got a syntax error: {error}") from error
    for key in table:
        _check_known(key, str(path), SETTINGS)
    return {
        key: _read(key, value, f"{path}: {key}", path.parent, is_text=False) for key, value in table.items()
    }


def _read(key: str, value: object, place: str, base: Path, *, is_text: bool) -> Any:
    kind: Kind = SETTINGS[key].metadata["kind"]
    try:
        result = kind.read(kind.text(value) if is_text and isinstance(value, str) else value)
    except (ValueError, RuntimeError) as error:  # RuntimeError: a home directory (~user) that does not exist
        raise ConfigError(f"{place}: expected {kind.expected}, got {_shown(value)}") from error
    return (base / result).absolute() if isinstance(result, Path) else result


def _check_known(key: str, place: str, known: Mapping[str, object]) -> None:
    if key in known:
        return
    near = difflib.get_close_matches(key[:GOT_CHARACTERS_MAX], known, n=1, cutoff=0.0)
    raise ConfigError(f"{place}: expected a known setting, got {_shown(key)}; did you mean {near[0]!r}?")


def _shown(value: object) -> str:
    got = repr(value)
    return got if len(got) <= GOT_CHARACTERS_MAX else got[:GOT_CHARACTERS_MAX] + "…"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
