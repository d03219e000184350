"""A real ComfyUI in a process of its own, and what a browser would ask of it."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PACK = "swinir-restore"
START_SECONDS = 300
RUN_SECONDS = 120

Graph = Mapping[str, Any]
"""A workflow in API format: node id to ``{"class_type": ..., "inputs": {...}}``."""


class ComfyHost:
    """A headless host on the CPU with an empty base directory and only this pack."""

    def __init__(
        self, home: Path, python: Path, pack: Path, base: Path, flags: Sequence[str] = ()
    ) -> None:
        self.base = base
        (base / "custom_nodes").mkdir(parents=True)
        (base / "custom_nodes" / PACK).symlink_to(pack, target_is_directory=True)
        (base / "models" / "upscale_models").mkdir(parents=True)
        (base / "models" / "swinir").mkdir(parents=True)
        self.url = f"http://127.0.0.1:{_free_port()}"
        self.log_file = base / "host.log"
        self._log_mark = 0
        command = [
            *(str(python), "main.py", "--cpu", "--port", self.url.rpartition(":")[2]),
            *("--base-directory", str(base), "--database-url", "sqlite:///:memory:"),
            *("--disable-api-nodes", "--disable-all-custom-nodes"),
            *("--whitelist-custom-nodes", PACK, "--log-stdout", *flags),
        ]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=home, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def process_id(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the host stopped while starting:\n{self.new_log()}")
            try:
                self.get_json("/system_stats")
                return
            except OSError:
                time.sleep(0.5)
        raise TimeoutError(f"the host did not start in {START_SECONDS} s:\n{self.new_log()}")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def new_log(self) -> str:
        """Return what the host has logged since the last call."""
        log = self.log_file.read_bytes()
        new, self._log_mark = log[self._log_mark :], len(log)
        return new.decode(errors="replace")

    def get(self, path: str, **query: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}") as reply:
            return reply.read()

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and JSON reply, of refusals as well."""
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request) as reply:
                status, content = reply.status, reply.read()
        except urllib.error.HTTPError as refusal:
            status, content = refusal.code, refusal.read()
        return status, json.loads(content) if content else None

    def upload(self, name: str, image: np.ndarray) -> str:
        """Put an (H, W, 3 or 4) uint8 image where ``LoadImage`` finds it under ``name``."""
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        boundary = uuid.uuid4().hex
        parts = [
            ('name="overwrite"', b"true"),
            (f'name="image"; filename="{name}"\r\nContent-Type: image/png', png.getvalue()),
        ]
        body = b"".join(
            f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
            + content
            + b"\r\n"
            for head, content in parts
        )
        request = urllib.request.Request(
            f"{self.url}/upload/image",
            body + f"--{boundary}--\r\n".encode(),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        with urllib.request.urlopen(request) as reply:
            return json.loads(reply.read())["name"]

    def submit(self, graph: Graph) -> str:
        """Queue a workflow that must be valid; its prompt id."""
        status, reply = self.post("/prompt", {"prompt": graph})
        assert (status, reply["node_errors"]) == (200, {}), reply
        return reply["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = RUN_SECONDS) -> dict[str, Any]:
        """The history entry of a workflow once it has ended, well or not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            entry = self.get_json(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                return entry
            time.sleep(0.1)
        raise TimeoutError(f"the workflow did not end in {seconds} s:\n{self.new_log()}")

    def run(self, graph: Graph, seconds: float = RUN_SECONDS) -> Result:
        """Run a workflow that must succeed."""
        result = Result(self, self.wait(self.submit(graph), seconds))
        assert result.succeeded, result.messages
        return result

    def run_failing(self, graph: Graph) -> Result:
        """Run a workflow that must fail; its traceback in the log is then not held against us."""
        result = Result(self, self.wait(self.submit(graph)))
        assert not result.succeeded, "the workflow succeeded"
        self.new_log()
        return result


class Result:
    """Outcome of a workflow."""

    def __init__(self, host: ComfyHost, entry: dict[str, Any]) -> None:
        self._host = host
        self._outputs = entry["outputs"]
        self.succeeded: bool = entry["status"]["status_str"] == "success"
        self.messages: dict[str, Any] = dict(entry["status"]["messages"])

    @property
    def cached_nodes(self) -> list[str]:
        return self.messages["execution_cached"]["nodes"]

    @property
    def error(self) -> str:
        return self.messages["execution_error"]["exception_message"]

    @property
    def kind_of_error(self) -> str:
        """Text that a dialog of the host shows before the message."""
        return self.messages["execution_error"]["exception_type"]

    def found(self, node: str) -> dict[str, Any]:
        """Output of a node in the history."""
        return self._outputs[node]

    def images(self, node: str = "save") -> np.ndarray:
        """(N, H, W, C) uint8: what a ``SaveImage`` node has saved, all of one size."""
        return np.stack(self.pictures(node))

    def pictures(self, node: str, kind: str = "images") -> list[np.ndarray]:
        """(H, W, C) uint8 each: what a node has saved, as this kind of output."""
        files = [
            self._host.get("/view", **{k: v for k, v in image.items() if isinstance(v, str)})
            for image in self._outputs[node][kind]
        ]
        return [np.asarray(Image.open(io.BytesIO(file))) for file in files]

    def image(self, node: str = "save") -> np.ndarray:
        """(H, W, C) uint8: the only picture of a ``SaveImage`` node."""
        (image,) = self.images(node)
        return image


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
