"""The worker's loop, in a thread over two pipes, and its frames."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from facechain.node.mining.search import NONCE_SPACE, PREFIX_BYTES
from facechain.node.mining.worker import JOB, REPORT, STOP, Job, Report, Worker

EASY_JOB = Job(number=1, prefix=bytes(PREFIX_BYTES), target=2**255, start=10)
HARD_JOB = Job(number=2, prefix=bytes(PREFIX_BYTES), target=1, start=0)


class Pipes:
    def __init__(self) -> None:
        jobs_out, self.jobs = os.pipe()
        self.reports, reports_in = os.pipe()
        self.ends = [jobs_out, reports_in, self.reports]
        self.thread = threading.Thread(target=Worker(jobs_out, reports_in).run)
        self.thread.start()

    def give(self, job: Job) -> None:
        os.write(self.jobs, job.encode())

    def report(self) -> Report:
        return Report.decode(os.read(self.reports, REPORT.size))

    def close(self) -> None:
        os.close(self.jobs)
        self.thread.join()
        for end in self.ends:
            os.close(end)


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    pipes = Pipes()
    yield pipes
    pipes.close()


def test_frames_are_read_as_they_were_written() -> None:
    assert Job.decode(EASY_JOB.encode()) == EASY_JOB
    assert len(EASY_JOB.encode()) == JOB.size
    report = Report(job=3, found=True, nonce=NONCE_SPACE - 1, hashes=5, nanoseconds=6)
    assert Report.decode(report.encode()) == report


def test_it_reports_the_first_nonce_of_its_range(pipes: Pipes) -> None:
    pipes.give(EASY_JOB)
    report = pipes.report()
    assert (report.job, report.found) == (1, True)
    assert report.nonce >= EASY_JOB.start
    assert report.hashes == report.nonce - EASY_JOB.start + 1


def test_a_new_job_replaces_a_hopeless_one(pipes: Pipes) -> None:
    pipes.give(HARD_JOB)
    pipes.give(replace(EASY_JOB, number=3))
    while not (report := pipes.report()).found:
        assert report.job == HARD_JOB.number
    assert report.job == 3


def test_progress_is_reported_without_a_find(pipes: Pipes) -> None:
    pipes.give(HARD_JOB)
    report = pipes.report()
    assert (report.job, report.found) == (2, False)
    assert report.hashes == report.nonce


def test_it_goes_on_after_a_stop(pipes: Pipes) -> None:
    pipes.give(HARD_JOB)
    pipes.give(STOP)
    pipes.give(EASY_JOB)
    while not (report := pipes.report()).found:
        assert report.job == HARD_JOB.number
    assert report.job == EASY_JOB.number


def test_it_ends_with_its_input_also_in_the_middle_of_a_search() -> None:
    pipes = Pipes()
    pipes.give(HARD_JOB)
    pipes.close()
    assert not pipes.thread.is_alive()
