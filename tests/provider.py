"""A provider of batches on this machine, for tests: files, batches, and answers when a test says so.

Here belongs the little of the protocol that batches need; the tests decide what goes wrong.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Line = dict[str, Any]


class Provider:
    """What was uploaded and handed in."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.refuse: dict[str, int] = {}
        """Paths (``files``, ``batches``) that answer with this status."""
        self.swallow = False
        """A batch is made, and the connection breaks before the reply."""
        self.url = ""

    def requests(self, batch: str) -> list[Line]:
        return [json.loads(line) for line in self.files[self.batches[batch]["input_file_id"]].splitlines()]

    def finish(
        self, batch: str, status: str = "completed", edit: Callable[[list[Line]], list[Any]] = lambda lines: lines
    ) -> None:
        """Answer every request of a batch, in the reverse of the order in which they came."""
        lines = [answer(line["custom_id"]) for line in reversed(self.requests(batch))]
        texts = [line if isinstance(line, str) else json.dumps(line) for line in edit(lines)]
        self.files[f"out-{batch}"] = "\n".join(texts) + "\n"
        self.batches[batch] |= {"status": status, "output_file_id": f"out-{batch}"}


def answer(key: str, text: str = "Score: 4\nGood.", **more: Any) -> Line:
    """A line of a file of answers."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}, **more}
    body = {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
    return {"id": "x", "custom_id": key, "response": {"status_code": 200, "body": body}, "error": None}


def error(key: str, code: str, status: int | None = None) -> Line:
    """A line about a request that came to nothing."""
    response = {"status_code": status, "body": {"error": {"code": code}}} if status else None
    return {"custom_id": key, "response": response, "error": None if status else {"code": code, "message": "-"}}


@contextmanager
def provider() -> Iterator[Provider]:
    """One that listens on loopback until the end of the block."""
    state = Provider()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(state: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal of the tests."""

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            what = self.path.rsplit("/", 1)[-1]
            if what in state.refuse:
                self._say({"error": {"code": "no", "message": data[:50].decode()}}, state.refuse[what])
            elif what == "files":
                name = f"file-{len(state.files)}"
                state.files[name] = _uploaded(self.headers["Content-Type"], data)
                self._say({"id": name, "object": "file", "bytes": len(data), "created_at": 1, "filename": "x",
                           "purpose": "batch", "status": "processed"})  # fmt: skip
            else:
                name = f"batch-{len(state.batches)}"
                state.batches[name] = {
                    "id": name, "object": "batch", "status": "validating", "created_at": 2_000_000_000,
                    **json.loads(data),
                }  # fmt: skip
                if state.swallow:
                    self.connection.close()
                    return
                self._say(state.batches[name])

        def do_GET(self) -> None:
            parts = self.path.partition("?")[0].split("/")[2:]
            if parts == ["batches"]:
                self._say({"object": "list", "data": list(reversed(state.batches.values())), "has_more": False})
            elif parts[0] == "batches" and parts[1] in state.batches:
                self._say(state.batches[parts[1]])
            elif parts[0] == "files" and parts[1] in state.files:
                self._send(state.files[parts[1]].encode(), 200)
            else:
                self._say({"error": {"code": "not_found"}}, 404)

        def _say(self, data: Any, status: int = 200) -> None:
            self._send(json.dumps(data).encode(), status)

        def _send(self, body: bytes, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _uploaded(kind: str, data: bytes) -> str:
    """The file in a form."""
    boundary = re.search(r"boundary=(\S+)", kind)
    assert boundary
    for part in data.split(b"--" + boundary[1].encode()):
        head, _, body = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            return body.removesuffix(b"\r\n").decode()
    raise AssertionError("no file in the form")
