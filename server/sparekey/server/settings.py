"""The server's settings: from the command line, else from SPAREKEY_SERVER_... variables."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServerSettings(BaseSettings):
    """How a license server runs.

    Attributes:
        listen: HOST:PORT for agents and operators; port 0 lets the system choose.
        data: The folder for the embedded database.
        database: A database URL in place of the embedded one.
        activation_server: HOST:PORT of the activation server; without it keys
            come from files only.
        vendor_keys: The file of public keys by signer id whose keys are trusted.
        test_clock: The instant at which a settable clock starts, in ISO 8601; a
            server without it goes by the machine's time.
        heartbeat: How long an agent may be silent.
        push_deadline: How long an SVM may take to answer a push.
        key_check_interval: How often the activation server is asked about blocked keys.
        subscription_poll_interval: How often the activation server is asked about each
            subscription, give or take a tenth.
        log_level: debug, info, warning or error.
        log_json: Logs as JSON lines.
    """

    model_config = SettingsConfigDict(env_prefix="SPAREKEY_SERVER_", extra="forbid")

    listen: str = "127.0.0.1:7443"
    data: Path = Path("sparekey-data")
    database: str | None = None
    activation_server: str | None = None
    vendor_keys: Path
    test_clock: str | None = None
    heartbeat: timedelta = Field(timedelta(seconds=30), ge=timedelta(seconds=1))
    push_deadline: timedelta = Field(timedelta(seconds=15), ge=timedelta(seconds=1))
    key_check_interval: timedelta = Field(timedelta(hours=1), ge=timedelta(seconds=1))
    subscription_poll_interval: timedelta = Field(timedelta(hours=1), ge=timedelta(seconds=1))
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    log_json: bool = False
