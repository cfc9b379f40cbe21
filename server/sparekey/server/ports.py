"""The server's ports: one that asks for a client certificate, and one for who has none yet."""

from __future__ import annotations

from dataclasses import dataclass

import grpc.aio

from sparekey.certificates.authority import Authority
from sparekey.runtime.startup import Address, StartupRefused, parse_address
from sparekey.server.encryption import (
    Certificate,
    GivenCertificate,
    OwnCertificate,
    own_hosts,
    server_credentials,
)
from sparekey.server.settings import ServerSettings
from sparekey.wire.serving import listen


@dataclass(frozen=True, slots=True)
class Ports:
    """What the settings say about ports and encryption; nothing is bound yet.

    Attributes:
        main: Where agents and operators call; with encryption they show a certificate.
        second: Where those call who have no certificate: agents that enroll, operators with a
            token. None if there is none.
        certificate: The server's certificate; None without encryption.
        authority: What issues certificates to agents; None where nothing does.
    """

    main: Address
    second: Address | None
    certificate: Certificate | None
    authority: Authority | None

    @property
    def encrypted(self) -> bool:
        """Whether calls come over TLS."""
        return self.certificate is not None

    def bind(self, server: grpc.aio.Server) -> tuple[Address, Address | None]:
        """Bind a server to the ports; return their real addresses.

        Raises:
            StartupRefused: a port is taken.
        """
        if self.certificate is None:
            return listen(server, self.main), None
        asking = server_credentials(self.certificate, ask_client=True)
        main = listen(server, self.main, asking)
        if self.second is None:
            return main, None
        trusting = server_credentials(self.certificate, ask_client=False)
        return main, listen(server, self.second, trusting)


def plan_ports(settings: ServerSettings) -> Ports:
    """Read the settings' ports and encryption.

    Raises:
        StartupRefused: they do not fit together, or the server would listen for others than this
            machine without encryption.
    """
    main = parse_address(settings.listen)
    second = parse_address(settings.token_listen) if settings.token_listen else None
    given = (settings.certificate, settings.private_key, settings.client_ca)
    if settings.ca is not None:
        if any(given):
            raise StartupRefused(
                "give --ca, or --certificate with --private-key and --client-ca, not both"
            )
        authority = Authority(settings.ca)
        hosts = own_hosts(main, settings.names)
        return Ports(main, second, OwnCertificate(authority, hosts), authority)
    certificate, private_key, client_ca = given
    if certificate and private_key and client_ca:
        return Ports(main, second, GivenCertificate(certificate, private_key, client_ca), None)
    if any(given):
        raise StartupRefused("--certificate, --private-key and --client-ca belong together")
    if not main.is_loopback:
        raise StartupRefused(
            f"will not listen on {main} without encryption; make an authority with"
            " `sparekey ca init --folder ca` and start with --ca ca, or listen on 127.0.0.1"
        )
    if second is not None:
        raise StartupRefused("--token-listen needs encryption; give --ca too")
    return Ports(main, None, None, None)
