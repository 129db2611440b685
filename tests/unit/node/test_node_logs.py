"""What a node's log leaves out."""

from __future__ import annotations

import logging
import sys

import pytest
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from facechain.node.node_logs import tells_of_this_node


def record_of(error: Exception) -> logging.LogRecord:
    try:
        raise error
    except type(error):
        return logging.LogRecord("aiohttp.server", logging.ERROR, "", 1, "failed", None, sys.exc_info())


@pytest.mark.parametrize("error", [BadHttpMessage("no HTTP"), LineTooLong(b"x" * 5_000, 4_096)])
def test_bytes_that_are_no_http_do_not_fill_the_log(error: Exception) -> None:
    assert not tells_of_this_node(record_of(error))


def test_faults_of_this_node_are_logged() -> None:
    assert tells_of_this_node(record_of(KeyError("tip")))
    assert tells_of_this_node(logging.LogRecord("aiohttp.server", logging.ERROR, "", 1, "failed", None, None))
