"""stream.py exec|attach|forward URL ...: a client of the streams of `kubectl exec -i`, `attach` and `port-forward`.

The Container Runtime Interface answers Exec, Attach and PortForward with a URL. kubelet passes on what comes, in
channels of a WebSocket (https://kubernetes.io/docs/reference/using-api/websockets/).

    exec URL, attach URL    what the program prints, with this program's standard input; the program's exit code
    forward URL PORT        what the port answers to this program's standard input
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import websocket

STDIN, STDOUT, STDERR, ERROR = range(4)  # channels of exec and attach: the first byte of a frame
DATA, REFUSAL = range(2)  # channels of the first port
PATIENCE = 60 * int(os.environ.get("SLOW", "1"))  # seconds without a frame after which the stream has failed


def connect(url: str) -> websocket.WebSocket:
    """Open the stream."""
    return websocket.create_connection(
        url.replace("http://", "ws://", 1), subprotocols=["v4.channel.k8s.io"], timeout=PATIENCE
    )


def frames(stream: websocket.WebSocket) -> Iterator[tuple[int, bytes]]:
    """Yield (channel, data) until the other side closes the stream."""
    while True:
        try:
            frame = stream.recv()
        except websocket.WebSocketConnectionClosedException:
            return
        if not frame:
            return
        frame = frame.encode() if isinstance(frame, str) else frame
        yield frame[0], frame[1:]


def talk(url: str) -> int:
    """Pass on standard input, then print what comes back. Return the exit code that the error channel tells."""
    stream = connect(url)
    for line in sys.stdin.buffer:
        stream.send_binary(bytes([STDIN]) + line)
    outputs = {STDOUT: sys.stdout.buffer, STDERR: sys.stderr.buffer}
    code = 0
    for channel, data in frames(stream):
        if channel in outputs:
            outputs[channel].write(data)
            outputs[channel].flush()
        elif channel == ERROR and data:
            code = exit_code(data)
    return code


def exit_code(data: bytes) -> int:
    """Return the exit code in a Status (k8s.io/apimachinery, meta/v1); print its message if it holds none."""
    status = json.loads(data)
    for cause in (status.get("details") or {}).get("causes", []):
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    if status.get("status") == "Success":
        return 0
    print(status.get("message"), file=sys.stderr)
    return 255


def forward(url: str, port: str) -> int:
    """Send standard input to the port, and print what it answers. Return 1 if the port is closed."""
    stream = connect(f"{url}?port={port}")
    request, greeted, code = sys.stdin.buffer.read(), set[int](), 0
    stream.send_binary(bytes([DATA]) + request)
    for channel, data in frames(stream):
        if channel not in greeted:
            greeted.add(channel)  # the first frame of each channel holds the port's number
        elif channel == DATA:
            sys.stdout.buffer.write(data)
        elif channel == REFUSAL and data:
            print(data.decode(), file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(forward(*sys.argv[2:]) if sys.argv[1] == "forward" else talk(sys.argv[2]))
