"""What an SVM's keys open by their editions."""

from collections.abc import Callable
from datetime import datetime

from sparekey.licensing.functions import edition_for, edition_of_svm
from sparekey.licensing.guests import OsClass
from sparekey.licensing.keyring import EMPTY, Keyring
from sparekey.licensing.keys import Edition, KeyType, LicenseKey

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]


def test_R42_R43_R90_a_guest_has_the_edition_of_the_key_that_covers_its_class(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    server = make_key(edition=Edition.ENTERPRISE, ends=5)
    pair = keyring_of([server, make_key(KeyType.DESKTOP)])
    assert edition_for(pair, OsClass.SERVER, at(0)) is Edition.ENTERPRISE
    assert edition_for(pair, OsClass.DESKTOP, at(0)) is Edition.STANDARD
    assert edition_for(pair, OsClass.SERVER, at(5)) is None
    assert edition_for(pair, OsClass.SERVER, at(0), void=True) is None
    cores = keyring_of([make_key(KeyType.CORES, edition=Edition.ENTERPRISE)])
    assert edition_for(cores, OsClass.DESKTOP, at(0)) is Edition.ENTERPRISE


def test_R44_a_guest_that_moves_has_what_the_other_svm_allows(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    rich, plain = (keyring_of([make_key(edition=edition)]) for edition in reversed(Edition))
    assert edition_for(rich, OsClass.SERVER, at(0)) is Edition.ENTERPRISE
    assert edition_for(plain, OsClass.SERVER, at(0)) is Edition.STANDARD


def test_R90_the_svm_as_a_whole_is_enterprise_only_if_all_its_active_keys_are(
    make_key: MakeKey, keyring_of: MakeKeyring
) -> None:
    server = make_key(edition=Edition.ENTERPRISE)
    for edition in Edition:
        desktop = make_key(KeyType.DESKTOP, edition=edition)
        assert edition_of_svm(keyring_of([server, desktop])) is edition
    assert edition_of_svm(EMPTY) is None
