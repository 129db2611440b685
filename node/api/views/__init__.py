"""Views: JSON-ready dictionaries computed from one `Snapshot`, used by the JSON API and the explorer alike.

Hashes are hex, times are Unix milliseconds, and nothing here does I/O beyond the snapshot.
"""
