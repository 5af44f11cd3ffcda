"""An HTTP server that answers as a model would."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Model:
    """What the server was asked, and what it will answer: a text, or an HTTP status."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.answers: list[str | int] = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(200, {"data": [{"id": "the-model"}]})

            def do_POST(self) -> None:
                assert self.path == "/v1/chat/completions"
                model.tokens.append(self.headers.get("Authorization", ""))
                model.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer = model.answers.pop(0)
                if isinstance(answer, int):
                    self.reply(answer, {"error": {"message": "told so"}})
                else:
                    choice = {"message": {"content": answer}}
                    self.reply(200, {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 20}})

            def reply(self, status: int, document: dict[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
