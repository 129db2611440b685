"""The explorer: server-rendered pages over the same reads as the JSON API, without outside requests."""
