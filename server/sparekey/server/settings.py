"""The server's settings: from the command line, else from SPAREKEY_SERVER_... variables."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from sparekey.licensing.modes import BLOCK_GRACE


def _as_seconds(value: object) -> object:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


# Numbers are seconds, also as text from the environment.
_Span = Annotated[timedelta, BeforeValidator(_as_seconds)]


class ServerSettings(BaseSettings):
    """How a license server runs.

    Attributes:
        listen: HOST:PORT for agents and operators; port 0 lets the system choose.
        data: The folder for the embedded database.
        database: A database URL in place of the embedded one.
        activation_server: HOST:PORT of the activation server; without it keys
            come from files only.
        ca: The folder of the server's own certificate authority.
        names: Further names by which clients reach the server, for its certificate.
        token_listen: HOST:PORT for callers without a certificate; only with encryption.
        certificate: The server's certificate in PEM, of an existing PKI.
        private_key: Its private key in PEM.
        client_ca: The authorities in PEM whose client certificates are accepted.
        certificate_lifetime: How long an agent's certificate lasts.
        vendor_keys: The file of public keys by signer id whose keys are trusted.
        test_clock: The instant at which a settable clock starts, in ISO 8601; a
            server without it goes by the machine's time.
        heartbeat: How long an agent may be silent.
        push_deadline: How long an SVM may take to answer a push.
        key_check_interval: How often the activation server is asked about blocked keys.
        writer_process: Write in a process of its own, which uses a second core; a
            server inside another program writes on a thread.
        subscription_poll_interval: How often the activation server is asked about each
            subscription, give or take a tenth.
        block_grace: How long a blocked key keeps everything running where its issuer
            says nothing (R95).
        log_level: debug, info, warning or error.
        log_json: Logs as JSON lines.
    """

    model_config = SettingsConfigDict(env_prefix="SPAREKEY_SERVER_", extra="forbid")

    listen: str = "127.0.0.1:7443"
    data: Path = Path("sparekey-data")
    database: str | None = None
    activation_server: str | None = None
    ca: Path | None = None
    names: list[str] = []
    token_listen: str | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    client_ca: Path | None = None
    certificate_lifetime: _Span = Field(timedelta(hours=24), ge=timedelta(seconds=1))
    vendor_keys: Path
    test_clock: str | None = None
    heartbeat: _Span = Field(timedelta(seconds=30), ge=timedelta(seconds=1))
    push_deadline: _Span = Field(timedelta(seconds=15), ge=timedelta(seconds=1))
    key_check_interval: _Span = Field(timedelta(hours=1), ge=timedelta(seconds=1))
    writer_process: bool = False
    subscription_poll_interval: _Span = Field(timedelta(hours=1), ge=timedelta(seconds=1))
    block_grace: _Span = Field(BLOCK_GRACE, ge=timedelta(0))
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    log_json: bool = False
