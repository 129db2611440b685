"""The mempool: statements that wait for a block, and those of them that were promised to be kept.

`pool` is the bounded, sequence-aware pool without any I/O; `durable` puts what was acknowledged into the
store; `trial` tells what pooled statements would do to the state; `limits` holds the table of bounds, the
answers and the reasons for which a statement left.
"""

from .durable import DurableMempool, OpenTip, Submission
from .limits import (
    Admitted,
    Drop,
    MempoolFull,
    MempoolLimits,
    MempoolRefusal,
    SequenceGap,
    SequenceTaken,
)
from .pool import Mempool
from .trial import Tip

__all__ = [
    "Admitted",
    "Drop",
    "DurableMempool",
    "Mempool",
    "MempoolFull",
    "MempoolLimits",
    "MempoolRefusal",
    "OpenTip",
    "SequenceGap",
    "SequenceTaken",
    "Submission",
    "Tip",
]
