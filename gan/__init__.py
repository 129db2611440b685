"""The producer: data sets, training, generation, clustering, release filter and image store.

Nothing here knows a node or a network: what has to be anchored is handed to a *submit* callable.
"""
