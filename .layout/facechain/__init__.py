"""facechain: a peer network that keeps the proof that a face is synthetic, unaltered and of known origin.

Owns the name and the version, and nothing else: importing it must stay free of cost.
"""

__version__ = "0.1.0"
