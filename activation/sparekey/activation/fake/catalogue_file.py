"""The catalogue as a file, so that a fake that was ended in a test forgets nothing.

The file is JSON, replaced as a whole at every change. Keys stand in it as the signed files that
they were answered with, and are verified when it is read.
"""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sparekey.activation.fake.records import (
    Code,
    CodeDefinition,
    IssuedKey,
    KeyProperties,
    Records,
)
from sparekey.activation.fake.subscriptions import Subscription, SubscriptionState
from sparekey.activation.fake.verdicts import Verdict
from sparekey.licensing.key_files import InvalidKeyFile
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.runtime.startup import StartupRefused

FORMAT = "sparekey-fake-catalogue/1"
_MICROSECOND = timedelta(microseconds=1)


def encode_records(records: Records) -> bytes:
    """The catalogue as the content of its file."""
    document = {
        "format": FORMAT,
        "clock_stands_at": _time(records.clock_stands_at),
        "codes": {digest: _code(code) for digest, code in records.codes.items()},
        "keys": {serial: _issued(issued) for serial, issued in records.keys.items()},
        "subscriptions": {
            serial: _subscription(subscription)
            for serial, subscription in records.subscriptions.items()
        },
        "trials": records.trials,
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode_records(content: bytes, read_key: Callable[[bytes], LicenseKey]) -> Records:
    """What `encode_records` encoded.

    Raises `InvalidKeyFile` where a key was signed by another, and `ValueError` for all else that
    is not as it was encoded.
    """
    try:
        return _read_records(json.loads(content), read_key)
    except (KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("not a catalogue") from None


def load_records(path: Path, read_key: Callable[[bytes], LicenseKey]) -> Records:
    """The catalogue of a file; empty where there is no file.

    Raises `StartupRefused` where the file is damaged or its keys are of another signing key.
    """
    try:
        return decode_records(path.read_bytes(), read_key)
    except FileNotFoundError:
        return Records()
    except OSError as error:
        reason = (error.strerror or "not possible").lower()
        raise StartupRefused(
            f"cannot read {path} ({reason}); mend its rights or remove it"
        ) from None
    except InvalidKeyFile:
        raise StartupRefused(
            f"{path} holds keys of another signing key; remove it to begin anew"
        ) from None
    except ValueError:
        raise StartupRefused(f"{path} is damaged; remove it to begin anew") from None


def _read_records(document: dict[str, Any], read_key: Callable[[bytes], LicenseKey]) -> Records:
    if document["format"] != FORMAT:
        raise ValueError(document["format"])
    return Records(
        codes={digest: _read_code(code) for digest, code in document["codes"].items()},
        keys={
            serial: _read_issued(issued, read_key) for serial, issued in document["keys"].items()
        },
        subscriptions={
            serial: _read_subscription(subscription)
            for serial, subscription in document["subscriptions"].items()
        },
        trials=dict(document["trials"]),
        clock_stands_at=_read_time(document["clock_stands_at"]),
    )


def _time(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _read_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _span(span: timedelta) -> int:
    return span // _MICROSECOND


def _read_span(microseconds: int) -> timedelta:
    return timedelta(microseconds=microseconds)


def _properties(properties: KeyProperties) -> dict[str, Any]:
    return {
        "type": properties.type.value,
        "kind": properties.kind.value,
        "edition": properties.edition.value,
        "unit_limit": properties.unit_limit,
        "not_before": _time(properties.not_before),
        "term_us": None if properties.term is None else _span(properties.term),
        "grace_us": _span(properties.grace),
        "stops_protection": properties.stops_protection,
    }


def _read_properties(fields: dict[str, Any]) -> KeyProperties:
    return KeyProperties(
        type=KeyType(fields["type"]),
        kind=KeyKind(fields["kind"]),
        edition=Edition(fields["edition"]),
        unit_limit=fields["unit_limit"],
        not_before=_read_time(fields["not_before"]),
        term=None if fields["term_us"] is None else _read_span(fields["term_us"]),
        grace=_read_span(fields["grace_us"]),
        stops_protection=fields["stops_protection"],
    )


def _code(code: Code) -> dict[str, Any]:
    definition = code.definition
    return {
        "ending": definition.ending,
        "properties": _properties(definition.properties),
        "activation_limit": definition.activation_limit,
        "renewals": definition.renewals,
        "redeem_before": _time(definition.redeem_before),
        "verdict": None if definition.verdict is None else definition.verdict.value,
        "serial_of": code.serial_of,
    }


def _read_code(fields: dict[str, Any]) -> Code:
    definition = CodeDefinition(
        ending=fields["ending"],
        properties=_read_properties(fields["properties"]),
        activation_limit=fields["activation_limit"],
        renewals=fields["renewals"],
        redeem_before=_read_time(fields["redeem_before"]),
        verdict=None if fields["verdict"] is None else Verdict(fields["verdict"]),
    )
    return Code(definition, dict(fields["serial_of"]))


def _issued(issued: IssuedKey) -> dict[str, Any]:
    return {
        "key_file": issued.key_file.decode("ascii"),
        "code_digest": issued.code_digest,
        "installation_id": issued.installation_id,
        "renewal": issued.renewal,
        "subscription": issued.subscription,
        "successor": issued.successor,
        "blocked_at": _time(issued.blocked_at),
        "block_grace_us": None if issued.block_grace is None else _span(issued.block_grace),
    }


def _read_issued(fields: dict[str, Any], read_key: Callable[[bytes], LicenseKey]) -> IssuedKey:
    key_file = fields["key_file"].encode("ascii")
    return IssuedKey(
        key=read_key(key_file),
        key_file=key_file,
        code_digest=fields["code_digest"],
        installation_id=fields["installation_id"],
        renewal=fields["renewal"],
        subscription=fields["subscription"],
        successor=fields["successor"],
        blocked_at=_read_time(fields["blocked_at"]),
        # Files of before it was there lack it.
        block_grace=(
            None if fields.get("block_grace_us") is None else _read_span(fields["block_grace_us"])
        ),
    )


def _subscription(subscription: Subscription) -> dict[str, Any]:
    return {
        "state": subscription.state.value,
        "begins_at": _time(subscription.begins_at),
        "ends_at": _time(subscription.ends_at),
        "grace_us": _span(subscription.grace),
        "stops_protection": subscription.stops_protection,
        "provider_url": subscription.provider_url,
    }


def _read_subscription(fields: dict[str, Any]) -> Subscription:
    return Subscription(
        state=SubscriptionState(fields["state"]),
        begins_at=_read_time(fields["begins_at"]),
        ends_at=_read_time(fields["ends_at"]),
        grace=_read_span(fields["grace_us"]),
        stops_protection=fields["stops_protection"],
        provider_url=fields["provider_url"],
    )
