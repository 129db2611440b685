"""The node's store: one transactional, ordered key-value port and the two stores that honour it."""
