"""The record index: which images are registered, kept as sorted runs (docs/adr/0011-sorted-runs.md)."""
