"""The wire: messages and their limits, the identity handshake, TLS and WebSocket transport.

`limits`, `fields`, `messages`, `codec`, `faults`, `handshake`, `session` and `chunks` are sans-I/O: bytes and a
clock reading in, values out. Only `tls` touches files, only `connection` and `transport` touch sockets.
"""
