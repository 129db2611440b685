"""The wire protocol as state machines without I/O: bytes and clock in, messages and actions out.

Refuses to import asyncio, aiohttp or socket, so that a thousand nodes can be simulated in one process.
"""
