"""Pages."""

from aiohttp import web


def add_pages(app: web.Application) -> None:
    """Add the explorer's pages."""
