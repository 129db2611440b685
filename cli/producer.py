"""The producer's commands; each lives in a module of its own."""

from .producer_cluster import cluster
from .producer_generate import generate
from .producer_privacy import privacy_report
from .producer_produce import produce
from .producer_train import train

__all__ = ["cluster", "generate", "privacy_report", "produce", "train"]
