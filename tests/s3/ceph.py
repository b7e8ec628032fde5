"""One Ceph RADOS gateway on loopback: monitor, one object store daemon in memory, gateway. No manager, no root.

Ended by process id. Nothing outside its folder is read or written, the system's own Ceph included.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from ports import free_port

NEEDED = ("ceph-mon", "ceph-osd", "ceph", "radosgw", "radosgw-admin", "ceph-authtool", "monmaptool")
DEADLINE_SECONDS = 400.0
ACCESS_KEY, SECRET_KEY = "medgr2testaccess", "medgr2testsecret0000"


def missing_binaries() -> list[str]:
    return [name for name in NEEDED if shutil.which(name) is None]


def die_with_the_tests() -> None:
    """In the child: a test run that is itself killed tears nothing down (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@dataclass
class Ceph:
    folder: Path
    endpoint: str = ""
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _deadline: float = 0.0

    def start(self) -> Ceph:
        self._deadline = time.monotonic() + DEADLINE_SECONDS
        try:
            self._start()
        except Exception as e:
            logs = self.logs()
            self.stop()
            raise RuntimeError(f"the Ceph gateway did not start: {e}\n{logs}") from e
        return self

    def _start(self) -> None:
        fsid, mon, web = str(uuid.uuid4()), free_port(), free_port()
        for name in ("mon", "osd", "run", "log"):
            (self.folder / name).mkdir(parents=True)
        self._configure(fsid, mon)
        keyring = str(self.folder / "keyring")
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        caps = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"]
        for name in ("client.admin", "osd.0"):
            self._run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
        monmap = str(self.folder / "monmap")
        self._run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon}]", monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._daemon("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())  # the monitor admits only the daemon that it made the number for
        self._run("ceph", "osd", "create", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("ceph-osd", "-i", "0")
        self._until("ceph", "osd", "stat", says="1 up")
        user = ["--uid=medgr2", "--display-name=medgr2", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"]
        self._run("radosgw-admin", "user", "create", *user)
        self.endpoint = f"http://127.0.0.1:{web}"
        self._daemon("radosgw", "-n", "client.admin", f"--rgw-frontends=beast endpoint=127.0.0.1:{web} tcp_nodelay=1")
        self._until_answers()

    def _configure(self, fsid: str, mon: int) -> None:
        d = self.folder
        (d / "ceph.conf").write_text(
            f"""[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}]
mon initial members = a
ms bind ipv6 = false
run dir = {d}/run
admin socket = {d}/run/$name.asok
log file = {d}/log/$name.log
pid file =
crash dir = {d}/log
keyring = {d}/keyring
mon data = {d}/mon
osd data = {d}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
mon data avail warn = 2
osd max object name len = 256
rgw thread pool size = 32
rgw data = {d}/run
rgw enable apis = s3
rgw run sync thread = false
rgw enable usage log = false
rgw dns name =
[osd]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
"""
        )

    def _arguments(self) -> list[str]:
        return ["-c", str(self.folder / "ceph.conf")]

    def _run(self, name: str, *args: str) -> str:
        own = [] if name in ("ceph-authtool", "monmaptool") else self._arguments()
        left = max(1.0, self._deadline - time.monotonic())
        done = subprocess.run([name, *own, *args], capture_output=True, text=True, timeout=left, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} {' '.join(args)} exited {done.returncode}: {done.stderr[-1500:]}")
        return done.stdout

    def _daemon(self, name: str, *args: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("wb") as out:
            self._processes.append(
                subprocess.Popen(
                    [name, *self._arguments(), "-f", *args],
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    preexec_fn=die_with_the_tests,
                )
            )

    def _until(self, *command: str, says: str) -> None:
        while says not in (said := self._run(*command)):
            if time.monotonic() > self._deadline:
                raise RuntimeError(f"{' '.join(command)} still says {said!r}")
            time.sleep(0.2)

    def _until_answers(self) -> None:
        while True:
            try:
                with urllib.request.urlopen(self.endpoint, timeout=5):
                    return
            except (urllib.error.URLError, OSError) as e:
                if time.monotonic() > self._deadline or self._processes[-1].poll() is not None:
                    raise RuntimeError(f"no answer from {self.endpoint}: {e}") from None
                time.sleep(0.2)

    def logs(self) -> str:
        parts = []
        for path in sorted((self.folder / "log").glob("*")):
            if path.is_file():
                parts.append(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}")
        return "\n".join(parts)

    def stop(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)  # it holds nothing that anybody will read again
        for process in self._processes:
            process.wait(timeout=120)
        shutil.rmtree(self.folder, ignore_errors=True)
