import os
import signal
from pathlib import Path

import pytest

from cd4ml.delivery.forkserver import Forkserver, Task
from cd4ml.delivery.provisioner import ForkedProcess


@pytest.mark.parametrize("ask", [lambda process: process.wait(30), lambda process: wait_by_polling(process)])
def test_a_process_that_ended_leaves_its_exit_code_and_no_socket(tmp_path: Path, ask) -> None:
    server = Forkserver()
    fork = server.fork(Task("builtins:print", {}, str(tmp_path), dict(os.environ)))
    process = ForkedProcess(fork, fork.pid)
    assert ask(process) == 0
    assert fork.connection.fileno() == -1
    process.send_signal(signal.SIGINT)  # as to any process that is gone
    process.kill()
    assert process.poll() == 0
    server.close()


def wait_by_polling(process: ForkedProcess) -> int:
    while (code := process.poll()) is None:
        pass
    return code
