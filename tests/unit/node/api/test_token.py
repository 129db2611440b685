import base64

import pytest

from facechain.node.api.token import carries_token

TOKEN = "a1" * 32


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "header", [f"Bearer {TOKEN}", f"bearer  {TOKEN} ", _basic(f"me:{TOKEN}"), _basic(f":{TOKEN}")]
)
def test_the_token_is_found(header: str) -> None:
    assert carries_token(header, TOKEN)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Digest {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        "Basic é",
        _basic(TOKEN),
        _basic(f"{TOKEN}:"),
    ],
)
def test_anything_else_is_not(header: str) -> None:
    assert not carries_token(header, TOKEN)
