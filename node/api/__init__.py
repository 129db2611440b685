"""The node's HTTP side: JSON API, events, metrics, and the server that also carries the explorer.

It reads the chain through `port.NodePort` and changes nothing but by `NodePort.submit`.
"""
