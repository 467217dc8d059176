"""What the executor tells a supervisor.

The supervisor imports this module: it imports nothing.
"""

from __future__ import annotations


class Orders:
    """What a supervisor is told, as NUL-separated `key=value` items in the file `job`.

    Times are milliseconds; `memory_bytes_max` 0 means no limit, `signal` 0 none; `account` is
    empty or `uid:gid:group,group...`.
    """

    __slots__ = (
        "account",
        "arguments",
        "begin_before_ms",
        "environment",
        "grace_ms",
        "kill_at_ms",
        "memory_bytes_max",
        "name",
        "script",
        "signal",
        "signal_ms",
        "stderr",
        "stdout",
        "walltime_ms",
        "work",
    )

    def __init__(
        self,
        *,
        name: str,
        work: str,
        script: str,
        arguments: tuple[str, ...],
        environment: tuple[str, ...],
        stdout: str,
        stderr: str,
        account: str,
        walltime_ms: int,
        grace_ms: int,
        begin_before_ms: int,
        kill_at_ms: int,
        memory_bytes_max: int,
        signal: int,
        signal_ms: int,
    ) -> None:
        self.name = name
        self.work = work
        self.script = script
        self.arguments = arguments
        self.environment = environment
        self.stdout = stdout
        self.stderr = stderr
        self.account = account
        self.walltime_ms = walltime_ms
        self.grace_ms = grace_ms
        self.begin_before_ms = begin_before_ms
        self.kill_at_ms = kill_at_ms
        self.signal = signal
        self.signal_ms = signal_ms
        self.memory_bytes_max = memory_bytes_max

    def encode(self) -> bytes:
        """The orders as `decode` reads them; no value may contain NUL."""
        items = []
        for key in self.__slots__:
            value = getattr(self, key)
            values = value if isinstance(value, tuple) else (value,)
            items += [f"{key}={item}" for item in values]
        return "\0".join(items).encode("utf-8", "surrogateescape")

    @classmethod
    def decode(cls, data: bytes) -> Orders:
        """The orders that `encode` wrote."""
        texts: dict[str, str] = {}
        lists: dict[str, list[str]] = {"arguments": [], "environment": []}
        for item in data.decode("utf-8", "surrogateescape").split("\0"):
            key, _, value = item.partition("=")
            if key in lists:
                lists[key].append(value)
            else:
                texts[key] = value
        return cls(
            name=texts["name"],
            work=texts["work"],
            script=texts["script"],
            arguments=tuple(lists["arguments"]),
            environment=tuple(lists["environment"]),
            stdout=texts["stdout"],
            stderr=texts["stderr"],
            account=texts["account"],
            walltime_ms=int(texts["walltime_ms"]),
            grace_ms=int(texts["grace_ms"]),
            begin_before_ms=int(texts["begin_before_ms"]),
            kill_at_ms=int(texts["kill_at_ms"]),
            memory_bytes_max=int(texts["memory_bytes_max"]),
            signal=int(texts["signal"]),
            signal_ms=int(texts["signal_ms"]),
        )
