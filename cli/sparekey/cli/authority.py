"""`sparekey ca`: the certificate authority in a folder; needs no server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sparekey.certificates.authority import (
    ISSUING,
    ROOT,
    ROOT_KEY,
    Authority,
    create_authority,
    rotate_issuing,
)
from sparekey.certificates.identity import ROLES, OperatorIdentity, is_identity
from sparekey.certificates.keys import key_pem, new_key
from sparekey.certificates.private_files import write_file
from sparekey.cli.options import read_span
from sparekey.cli.problems import EXIT_USAGE, CommandFailed
from sparekey.cli.session import session_of
from sparekey.runtime.startup import StartupRefused

app = typer.Typer(
    no_args_is_help=True,
    help="The authority that issues certificates; a folder on the server's machine.",
)

Folder = Annotated[
    Path, typer.Option("--folder", metavar="FOLDER", help="Its folder.", show_default=False)
]


@app.command()
def init(
    context: typer.Context,
    folder: Folder,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Whose authority it is.")
    ] = "Sparekey",
) -> None:
    """Make an authority: a root that everyone trusts, and an issuing certificate below it.

    Examples:
      sparekey ca init --folder ca
    """
    try:
        create_authority(folder, name[:24], datetime.now(UTC))
    except StartupRefused as refused:
        raise CommandFailed(str(refused), EXIT_USAGE) from None
    session = session_of(context)
    session.note(
        f"made {folder / ROOT} (give it to agents and operators), {folder / ISSUING} (the server"
        f" needs it) and {folder / ROOT_KEY} (keep it apart; only `sparekey ca rotate` needs it)"
    )
    session.note(
        f"next: sparekey ca operator --folder {folder} --name YOU --role admin --out you.pem, then"
        f" sparekey-server --ca {folder}"
    )


@app.command()
def rotate(context: typer.Context, folder: Folder) -> None:
    """Replace the issuing certificate. A running server follows; no agent is cut.

    What the old one signed stays valid until it ends.
    """
    try:
        authority = rotate_issuing(folder, datetime.now(UTC))
    except StartupRefused as refused:
        raise CommandFailed(str(refused), EXIT_USAGE) from None
    ends = authority.issuing.not_valid_after_utc
    session_of(context).note(f"made a new {folder / ISSUING}; it ends {ends:%Y-%m-%d}")


@app.command()
def operator(
    context: typer.Context,
    folder: Folder,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Who it is for.")],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help=", ".join(ROLES))],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Certificate and key in PEM.")],
    lifetime: Annotated[
        str, typer.Option("--lifetime", metavar="SPAN", help="How long it lasts.")
    ] = "90d",
) -> None:
    """Issue a certificate for an operator; the first admin comes in this way.

    Examples:
      sparekey ca operator --folder ca --name alice --role admin --out alice.pem
      sparekey --certificate alice.pem --ca-file ca/root.pem svms list
    """
    identity = OperatorIdentity(role, name)
    if not is_identity(identity):
        raise CommandFailed(
            f"a role is one of {', '.join(ROLES)}, and a name has 1 to 64 letters, digits and"
            " . _ @ -",
            EXIT_USAGE,
        )
    key = new_key()
    try:
        issued = Authority(folder).issue(
            key.public_key(), identity, read_span(lifetime, "--lifetime"), datetime.now(UTC)
        )
        write_file(out, issued.chain + key_pem(key))
    except StartupRefused as refused:
        raise CommandFailed(str(refused), EXIT_USAGE) from None
    session_of(context).note(
        f"made {out}; certificate {issued.serial}, until {issued.expires_at:%Y-%m-%d %H:%M} UTC"
    )
