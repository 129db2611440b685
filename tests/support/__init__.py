"""Simulators, builders and deadlines shared by the tests; no mocks."""
