"""What tests of real servers share."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from certificate import write_certificate
from waiting import find_port, is_listening, wait_until

from cd4ml.base.errors import StoreError
from cd4ml.production.predictions import PredictionLog, summarise_log

FOLDERS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.get_exec_path())]
SECRET = "s3cret-w0rd"


@pytest.fixture
def own_certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Return the files of a certificate for this machine that it signed itself, and of its key."""
    return write_certificate(tmp_path)


@dataclass
class Postgres:
    """Start and stop a database of its own; Postgres does not run as root."""

    programs: Path
    folder: Path
    port: int = 0
    process: subprocess.Popen | None = None
    user: dict = field(default_factory=lambda: {"user": "postgres"} if os.geteuid() == 0 else {})

    def create(self) -> None:
        """Make the database's files."""
        self.folder.mkdir()
        if self.user:
            self.folder.parent.chmod(0o755)
            shutil.chown(self.folder, "postgres")
        (self.folder.parent / "password").write_text(SECRET)
        (self.folder.parent / "password").chmod(0o644)
        subprocess.run([self.programs / "initdb", "-D", self.folder / "data", "-U", "cd4ml", "-A", "scram-sha-256",
                        "-N", "-E", "UTF8", f"--pwfile={self.folder.parent}/password"], check=True, capture_output=True,
                       cwd="/", **self.user)
        self.port = find_port()

    @property
    def address(self) -> str:
        """The address, with its password."""
        return f"postgresql+psycopg://cd4ml:{SECRET}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", self.folder]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd="/", **self.user)
        wait_until(self.answers, "the database answers")

    def answers(self) -> bool:
        """Tell whether it can be asked."""
        try:
            summarise_log(self.address, "toy")
        except StoreError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it; as in a crash, if nothing else is said."""
        self.process.send_signal(how)  # SIGQUIT: at once, as in a crash; what was committed is in its own log
        self.process.wait(30)

    def clear(self) -> None:
        """Empty the log, and forget the sinks."""
        import psycopg

        with psycopg.connect(self.address.replace("+psycopg", "")) as connection:
            connection.execute("truncate predictions, counted, outcomes, cursors")
            connection.execute("drop table if exists sinks, refused")


@pytest.fixture(scope="session")
def cloud() -> Iterator[str]:
    """Give the address of a server that speaks AWS' protocols."""
    port = find_port()
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(port), "the server of moto")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Give a database that runs."""
    if (programs := next((folder for folder in FOLDERS if (folder / "initdb").is_file()), None)) is None:
        pytest.skip("postgresql is not installed: run ci/services")
    with tempfile.TemporaryDirectory(prefix="cd4ml-postgres-") as place:  # pytest's own folders are root's alone
        found = Postgres(programs, Path(place) / "cluster")
        found.create()
        found.start()
        yield found
        found.stop()


@pytest.fixture
def address(postgres: Postgres) -> str:
    """Return the address of an empty log in the database."""
    PredictionLog(postgres.address).close()
    postgres.clear()
    return postgres.address
