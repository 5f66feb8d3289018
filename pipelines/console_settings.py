"""Settings of the operator's console."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator

from pipelines.detection_settings import Section

_LEAST_TOKEN = 16


class Console(Section):
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address the console listens on. Another one than loopback only behind a proxy that encrypts and"
        " says who may read, or inside a container whose port is published on loopback.",
    )
    port: int = Field(8787, ge=0, le=65535, description="Port of the console; 0 takes a free one.")
    names: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost", "[::1]"),
        description="Host names, without a port, under which a browser may ask; others are refused (DNS rebinding).",
    )
    token: SecretStr | None = Field(
        None,
        description="Whoever has it may acknowledge, mute and give feedback, at least 16 characters; without one the"
        " console only shows. From the environment or a file only.",
    )
    history: int = Field(1000, ge=10, le=100_000, description="So many closed incidents, the latest, are kept at hand.")
    clients: int = Field(50, ge=1, le=1000, description="Most pages that may be open at once.")

    @model_validator(mode="after")
    def _token_is_long(self) -> Self:
        if self.token is not None and len(self.token.get_secret_value()) < _LEAST_TOKEN:
            raise ValueError(
                f"GRIDWATCH_CONSOLE__TOKEN is shorter than {_LEAST_TOKEN} characters: make one with"
                " `python -c 'import secrets; print(secrets.token_urlsafe(24))'`"
            )
        return self
