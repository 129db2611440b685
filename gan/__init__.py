"""The producer: data sets, networks, training, generation, filtering, clustering and evaluation.

Owns everything that needs torch. Refuses to know how a batch reaches the chain: it is handed a
`submit` callable and never imports `facechain.node`.
"""
