"""Signals that come at any moment."""

from __future__ import annotations

import io
import logging
import os
import signal

import pytest

from legnet_cli.engine.train.signals import StopSignal


class Interrupted(io.RawIOBase):
    """A stream that a signal reaches amid its first write."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        if not self.written:
            signal.raise_signal(signal.SIGTERM)
        self.written += bytes(data)
        return len(data)


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
def test_a_signal_amid_a_line_of_the_log_is_told_after_that_line():
    raw = Interrupted()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", write_through=True)
    handler = logging.StreamHandler(stream)
    logging.getLogger("legnet_cli").addHandler(handler)
    stop = StopSignal()
    try:
        with stop.heard():
            stream.write("epoch 1\n")
            stream.flush()
    finally:
        logging.getLogger("legnet_cli").removeHandler(handler)
    stream.flush()
    assert stop.asked
    assert raw.written.decode().split("\n") == ["epoch 1", "stopping after this step", ""]
