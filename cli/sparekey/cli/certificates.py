"""`sparekey certificates`: what was issued to SVMs, and taking it back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.table import Table

from sparekey.cli.cells import BAD, cell, instant_cell, new_table
from sparekey.cli.connection import PAGE_SIZE
from sparekey.cli.options import DryRun, RequestId, SvmId
from sparekey.cli.session import session_of
from sparekey.v1 import access_pb2
from sparekey.wire.timestamps import instant_or_none

app = typer.Typer(no_args_is_help=True, help="The certificates of SVMs; banning SVMs.")


@app.command("list")
def list_certificates(
    context: typer.Context,
    svm: Annotated[
        str,
        typer.Option("--svm", metavar="ID", help="Only those of this SVM.", show_default=False),
    ] = "",
) -> None:
    """List certificates, newest first."""
    session = session_of(context)
    connection = session.connection
    certificates = connection.pages(
        connection.access.ListCertificates,
        lambda token: access_pb2.ListCertificatesRequest(
            svm_id=svm, page_size=PAGE_SIZE, page_token=token
        ),
        lambda response: response.certificates,
    )
    session.show_all(certificates, _table, empty="no certificate was issued")


@app.command()
def revoke(
    context: typer.Context,
    serial: Annotated[
        str, typer.Argument(metavar="SERIAL", help="Its serial number.", show_default=False)
    ],
    dry_run: DryRun = False,
    request_id: RequestId = "",
) -> None:
    """Make a certificate useless at once, and cut who uses it."""
    session = session_of(context)
    request = access_pb2.RevokeCertificateRequest(
        certificate_serial=serial, validate_only=dry_run, request_id=request_id
    )
    response = session.connection.call(session.connection.access.RevokeCertificate, request)
    session.show(response.certificate, lambda: _table([response.certificate]))
    session.note("dry run: nothing was revoked" if dry_run else "revoked")


@app.command()
def ban(
    context: typer.Context, svm_id: SvmId, dry_run: DryRun = False, request_id: RequestId = ""
) -> None:
    """Shut an SVM out, whatever certificate or join token its agent shows."""
    _ban(context, svm_id, False, dry_run, request_id)


@app.command()
def unban(
    context: typer.Context, svm_id: SvmId, dry_run: DryRun = False, request_id: RequestId = ""
) -> None:
    """Let a banned SVM in again."""
    _ban(context, svm_id, True, dry_run, request_id)


def _ban(context: typer.Context, svm_id: str, lift: bool, dry_run: bool, request_id: str) -> None:
    session = session_of(context)
    request = access_pb2.BanSvmRequest(
        svm_id=svm_id, lift=lift, validate_only=dry_run, request_id=request_id
    )
    response = session.connection.call(session.connection.access.BanSvm, request)
    said = f"{svm_id} is {'banned' if response.banned else 'let in'}"
    session.show(response, lambda: cell(said))
    if dry_run:
        session.note("dry run: nothing was changed")


def _table(certificates: Iterable[access_pb2.Certificate]) -> Table:
    table = new_table()
    for title in ("SERIAL", "SVM", "STATE", "ENDS"):
        table.add_column(title, overflow="fold")
    for certificate in certificates:
        revoked = certificate.HasField("revoked_at")
        table.add_row(
            cell(certificate.certificate_serial),
            cell(certificate.svm_id or "-"),
            cell("revoked", BAD) if revoked else cell("issued"),
            instant_cell(instant_or_none(certificate, "expires_at")),
        )
    return table
