"""A NATS server of which only the core works: it passes messages on, and its streams soon answer no more.

``python half_a_nats.py ADDRESS PORT``: until SIGUSR1, questions to JetStream are answered, as of nothing found.
"""

import asyncio
import json
import signal
import sys

NOT_FOUND = json.dumps(
    {
        "type": "io.nats.jetstream.api.v1",
        "error": {"code": 404, "err_code": 10059, "description": "stream not found"},
    }
).encode()


class Core:
    """All connections and what they listen to."""

    def __init__(self) -> None:
        self.answers = True
        self.listening: list[tuple[str, str, asyncio.StreamWriter]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        told = {"server_id": "half", "version": "2.10.0", "headers": True, "max_payload": 1 << 26}
        writer.write(b"INFO %s\r\n" % json.dumps(told).encode())
        while line := await reader.readline():
            verb, *words = line.decode().split()
            match verb.upper(), words:
                case "PING", _:
                    writer.write(b"PONG\r\n")
                case "SUB", [subject, *_, sid]:
                    self.listening.append((subject, sid, writer))
                case (("PUB" | "HPUB"), [subject, *reply, size]):
                    data = (await reader.readexactly(int(size) + 2))[:-2]
                    if not subject.startswith("$JS."):
                        self.publish(subject, data)
                    elif self.answers:
                        self.publish(reply[0], NOT_FOUND)
        self.listening = [one for one in self.listening if one[2] is not writer]

    def hush(self) -> None:
        """No answers from now on."""
        self.answers = False

    def publish(self, subject: str, data: bytes) -> None:
        """To whoever listens; patterns end with a star."""
        for pattern, sid, writer in self.listening:
            if subject == pattern or (pattern.endswith("*") and subject.startswith(pattern[:-1])):
                writer.write(f"MSG {subject} {sid} {len(data)}\r\n".encode() + data + b"\r\n")


async def main(address: str, port: int) -> None:
    """Serves until it is ended."""
    core = Core()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, core.hush)
    server = await asyncio.start_server(core.serve, address, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
