"""KeyService: the key storage over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sparekey.licensing.activation_codes import MalformedActivationCode, parse_activation_code
from sparekey.licensing.key_files import InvalidKeyFile, TrustedSigners
from sparekey.licensing.keys import LicenseKey
from sparekey.runtime.clock import Clock
from sparekey.server.activation_client import ActivationClient
from sparekey.server.keys.adding import (
    AddKey,
    DeleteKey,
    add_keys,
    check_new_key,
    delete_keys,
    key_not_found,
)
from sparekey.server.keys.blocking import MarkBlocked, mark_blocked
from sparekey.server.keys.messages import key_message
from sparekey.server.life.messages import subscription_status
from sparekey.server.services.calls import PageTokens, page_size, retry_of
from sparekey.server.store.guests import units_in_use
from sparekey.server.store.keys import (
    StoredKey,
    key_use,
    load_keys,
    page_of_keys,
    serials_to_check,
)
from sparekey.server.store.reader import Connection, Reader
from sparekey.server.store.requests import Retry, earlier_answer
from sparekey.server.store.subscriptions import load_stored_subscriptions
from sparekey.server.store.writer import Writer
from sparekey.v1 import error_pb2, key_pb2
from sparekey.wire.edge import Call
from sparekey.wire.errors import CallRefused


class KeyServicer:
    """Serves `sparekey.v1.KeyService`."""

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        clock: Clock,
        client: ActivationClient,
        trusted: TrustedSigners,
        tokens: PageTokens,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._client = client
        self._trusted = trusted
        self._tokens = tokens

    async def add_key(self, request: key_pb2.AddKeyRequest, call: Call) -> key_pb2.AddKeyResponse:
        """Add a key from a file or by a code; a code is redeemed before anything is stored."""
        retry = retry_of(call, request.request_id)
        if (earlier := await self._earlier(retry)) is not None:
            return key_pb2.AddKeyResponse.FromString(earlier)
        code_ending = ""
        key_file = request.key_file
        if request.WhichOneof("source") == "activation_code":
            code = _parse_code(request.activation_code)
            code_ending = code[-5:]
            key_file = await self._client.redeem(code, validate_only=request.validate_only)
        key = self._verify(key_file)
        new = AddKey(key, key_file, call.actor, retry, code_ending)
        if request.validate_only:
            return await self._reader.read(_would_add, new, self._clock.now())
        return await self._writer.write(add_keys, new)

    async def get_key(self, request: key_pb2.GetKeyRequest, call: Call) -> key_pb2.GetKeyResponse:
        """Read one key."""
        key = await self._reader.read(_read_key, request.serial, self._clock.now())
        if key is None:
            raise key_not_found(request.serial)
        return key_pb2.GetKeyResponse(key=key)

    async def list_keys(
        self, request: key_pb2.ListKeysRequest, call: Call
    ) -> key_pb2.ListKeysResponse:
        """List keys by expiry, then serial."""
        position = self._tokens.read(call.method, (), request.page_token)
        after = None
        if position is not None:
            expires_at = datetime.fromisoformat(position[0]) if position[0] else None
            after = (expires_at, position[1])
        size = page_size(request.page_size)
        rows, messages = await self._reader.read(_read_page, after, size + 1, self._clock.now())
        page, token = self._tokens.cut(call.method, (), rows, size, _position)
        return key_pb2.ListKeysResponse(keys=messages[: len(page)], next_page_token=token)

    async def delete_key(
        self, request: key_pb2.DeleteKeyRequest, call: Call
    ) -> key_pb2.DeleteKeyResponse:
        """Take a key out of the storage."""
        return await self._writer.write(
            delete_keys,
            DeleteKey(
                request.serial,
                request.force,
                call.actor,
                retry_of(call, request.request_id),
                request.validate_only,
            ),
        )

    async def refresh_keys(
        self, request: key_pb2.RefreshKeysRequest, call: Call
    ) -> key_pb2.RefreshKeysResponse:
        """Ask the activation server which keys are blocked."""
        retry = retry_of(call, request.request_id)
        if (earlier := await self._earlier(retry)) is not None:
            return key_pb2.RefreshKeysResponse.FromString(earlier)
        serials = await self._reader.read(serials_to_check)
        blocked = await self._client.blocked(serials) if serials else {}
        return await self._writer.write(
            mark_blocked,
            MarkBlocked(
                tuple(blocked), call.actor, retry, request.validate_only, graces=dict(blocked)
            ),
        )

    async def _earlier(self, retry: Retry) -> bytes | None:
        """What a retry was answered before; it must not reach the activation server again."""
        earlier = await self._reader.read(earlier_answer, retry)
        if isinstance(earlier, CallRefused):
            raise earlier
        return earlier

    def _verify(self, key_file: bytes) -> LicenseKey:
        try:
            key = self._trusted.read(key_file)
        except InvalidKeyFile as invalid:
            raise CallRefused(
                error_pb2.ERROR_REASON_INVALID_KEY_FILE,
                str(invalid),
                metadata={"problem": invalid.problem.name},
            ) from None
        if key.has_expired_at(self._clock.now()):
            raise CallRefused(
                error_pb2.ERROR_REASON_KEY_EXPIRED,
                f"the validity of the key {key.serial} is over; add another",
                metadata={"serial": key.serial},
            )
        return key


def _parse_code(text: str) -> str:
    try:
        return parse_activation_code(text)
    except MalformedActivationCode as malformed:
        raise CallRefused(
            error_pb2.ERROR_REASON_MALFORMED_ACTIVATION_CODE, str(malformed)
        ) from None


def _would_add(connection: Connection, new: AddKey, now: datetime) -> key_pb2.AddKeyResponse:
    known = check_new_key(connection, new)
    stored = known or StoredKey(new.key, new.key_file, now, code_ending=new.code_ending)
    use = key_use(connection, [new.key.serial]).get(new.key.serial)
    already = known is not None and known.in_storage
    return key_pb2.AddKeyResponse(key=key_message(stored, use), already_stored=already)


def _read_key(connection: Connection, serial: str, now: datetime) -> key_pb2.Key | None:
    stored = load_keys(connection, [serial]).get(serial)
    if stored is None or not stored.in_storage:
        return None
    return _messages(connection, [stored], now)[0]


def _position(stored: StoredKey) -> tuple[str | None, str]:
    expires_at = stored.key.expires_at
    return (expires_at.isoformat() if expires_at else None, stored.key.serial)


def _read_page(
    connection: Connection, after: tuple[datetime | None, str] | None, size: int, now: datetime
) -> tuple[list[StoredKey], list[key_pb2.Key]]:
    page = page_of_keys(connection, after, size)
    return page, _messages(connection, page, now)


def _messages(
    connection: Connection, page: Sequence[StoredKey], now: datetime
) -> list[key_pb2.Key]:
    serials = [stored.key.serial for stored in page]
    use = key_use(connection, serials)
    units = units_in_use(connection, now, serials)
    known = load_stored_subscriptions(connection, serials)
    return [
        key_message(
            stored,
            use.get(stored.key.serial),
            units=units.get(stored.key.serial, 0),
            subscription=(
                subscription_status(one.subscription, now, one.polled_at)
                if (one := known.get(stored.key.serial)) is not None
                else None
            ),
        )
        for stored in page
    ]
