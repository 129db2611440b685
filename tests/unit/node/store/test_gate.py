"""Waiting at the gate: growth waits for reads, gives up in time, and never for a thread's own read."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from facechain.node.store.errors import StoreBusy
from facechain.node.store.gate import Gate


def test_alone_waits_for_the_open_read() -> None:
    gate = Gate()
    opened, leave = Event(), Event()
    order = []

    def read() -> None:
        with gate.reading():
            opened.set()
            assert leave.wait(30)
            with gate.reading():  # its own second read is let in although somebody waits
                order.append("read")

    def grow() -> None:
        with gate.writing(), gate.alone():
            order.append("grow")

    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(read)
        assert opened.wait(30)
        growing = pool.submit(grow)
        leave.set()
        reading.result()
        growing.result()
    assert order == ["read", "grow"]


def test_alone_gives_up_on_a_read_that_stays() -> None:
    gate = Gate(drain_seconds=0.01)
    with ThreadPoolExecutor(1) as other, gate.reading():

        def grow() -> None:
            with gate.writing(), gate.alone():
                pytest.fail("a read was open")

        with pytest.raises(StoreBusy, match="1 still open"):
            other.submit(grow).result()
        other.submit(lambda: gate.reading().__enter__())  # the gate is open to reads again
    with gate.writing():
        pass


def test_close_gives_up_on_a_transaction_that_stays() -> None:
    gate = Gate(drain_seconds=0.01)
    with ThreadPoolExecutor(1) as other, gate.writing(), pytest.raises(StoreBusy, match="transaction"):
        other.submit(gate.close).result()
    assert gate.close()
    assert not gate.close()
