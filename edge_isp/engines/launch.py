"""Engines opened by name: in this process, or in a process of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_isp.engines.base import Engine
from edge_isp.engines.process import ProcessEngine
from edge_isp.errors import PluginError
from edge_isp.plugins import load


@dataclass(frozen=True, slots=True)
class Launcher:
    """Opens engines that share their settings.

    Attributes:
        threads: of each engine; None for one fewer than there are cores.
        python: the path of another Python, for engines whose packages this one does not have; None where there is none.
        isolate: open every engine in a process of its own.
        memory_limit_bytes: of each such process; None for no limit.
        sha256: SHA-256 of models by path, hexadecimal: the engine refuses another content.
    """

    threads: int | None
    python: str | None
    isolate: bool = False
    memory_limit_bytes: int | None = None
    sha256: Mapping[Path, str] = field(default_factory=dict)

    def open(self, name: str, path: Path, *, time_limit_s: float | None = None, **settings: Any) -> Engine:
        """Opens an engine.

        Args:
            name: the engine's.
            path: of the model's file.
            time_limit_s: seconds for one inference, which implies a process of its own; None for no limit.
            **settings: further arguments of the engine's class.

        Raises:
            EngineError: it cannot load the model.
            PluginError: there is no such engine, or its packages are not installed and there is no other Python.
        """
        if not self.isolate and time_limit_s is None:
            try:
                engine_class = load("engines", name)
            except PluginError:
                if self.python is None:
                    raise
            else:
                if path in self.sha256:
                    settings["sha256"] = self.sha256[path]
                engine: Engine = engine_class(path, threads=self.threads, **settings)
                return engine
        return self.open_process(name, path, time_limit_s=time_limit_s, **settings)

    def is_here(self, name: str) -> bool:
        """Whether this Python has the packages of an engine.

        Args:
            name: the engine's.
        """
        try:
            load("engines", name)
        except PluginError:
            return False
        return True

    def open_process(self, name: str, path: Path, **settings: Any) -> ProcessEngine:
        """Opens an engine in a process of its own.

        Args:
            name: the engine's.
            path: of the model's file.
            **settings: further arguments of `ProcessEngine`.

        Raises:
            EngineError: it cannot load the model.
        """
        if path in self.sha256:
            settings["sha256"] = self.sha256[path]
        return ProcessEngine(
            path,
            engine=name,
            threads=self.threads,
            python=self.python,
            memory_limit_bytes=self.memory_limit_bytes,
            **settings,
        )
